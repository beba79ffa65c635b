"""One image is a batch; samples that mix are found where they mix, and only there."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import relprop
from relprop.errors import UnsupportedOpError


class One(nn.Module):
    def __init__(self, read):
        super().__init__()
        self.read, self.conv, self.head, self.all = read, nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 5), nn.Linear(72, 5)
        self.token, self.lstm = nn.Parameter(torch.randn(1, 1, 8)), nn.LSTM(8, 8, batch_first=True)

    def forward(self, x):
        return self.read(self, self.conv(x).relu(), x)


def _one_only(m, z, x):
    if x.shape[0] != 1:
        raise ValueError("one image at a time")
    return m.head(z.mean((2, 3)))


def _one_by_one(m, z, _):
    return torch.stack([m.head(one.mean((1, 2))) for one in z])


ONE_AT_A_TIME = {
    "view(1, -1)": lambda m, z, x: m.all(z.view(1, -1)),
    "reshape(1, 8, 9)": lambda m, z, x: m.head(z.reshape(1, 8, 9).mean(2)),
    "class token not expanded": lambda m, z, x: m.head(torch.cat([m.token, z.flatten(2).mT], 1).mean(1)),
    "squeeze(0)": lambda m, z, x: m.head(z.squeeze(0).mean((1, 2))).unsqueeze(0),
    "squeezed for good": lambda m, z, x: m.head(z[0].mean((1, 2))),
    "view(-1)": lambda m, z, x: m.all(z.view(-1)).unsqueeze(0),
    "hidden state of one": lambda m, z, x: m.head(
        m.lstm(z.flatten(2).mT, (torch.zeros(1, 1, 8), torch.zeros(1, 1, 8)))[0][:, -1]
    ),
    "raises on more": _one_only,
    "a loop": _one_by_one,
}


@pytest.mark.parametrize("name", ONE_AT_A_TIME)
def test_models_of_one_image_are_explained_one_by_one(name):
    torch.manual_seed(0)
    model, x = One(ONE_AT_A_TIME[name]).eval(), torch.randn(3, 3, 12, 12)
    explainer = relprop.Explainer(model, x[:1], "lrp-epsilon")
    found = explainer(x, 1)
    assert any("samples are run one at a time" in note for note in found.notes)
    with torch.no_grad():
        wanted = torch.stack([model(one[None]).reshape(-1) for one in x])
    torch.testing.assert_close(found.logits, wanted)
    torch.testing.assert_close(found.relevance.flatten(1).sum(1) + found.absorbed, found.logits[:, 1])


FOUR_ALONE = {
    "view(4, -1)": lambda m, z, x: m.all(z.view(4, -1)),
    "hidden state of four": lambda m, z, x: m.head(
        m.lstm(z.flatten(2).mT, (torch.zeros(1, 4, 8), torch.zeros(1, 4, 8)))[0][:, -1]
    ),
}


@pytest.mark.parametrize("name", FOUR_ALONE)
@pytest.mark.parametrize("method", ["lrp-epsilon", "gradient"])
def test_models_of_one_other_size_are_explained_by_copies(name, method):
    torch.manual_seed(0)
    model, x = One(FOUR_ALONE[name]).eval(), torch.randn(4, 3, 12, 12, requires_grad=True)
    explainer = relprop.Explainer(model, x.detach(), method)
    found = explainer(x.detach()[:3], 1)
    assert any("batches of 4 alone" in note for note in found.notes)
    output = model(x)
    torch.testing.assert_close(found.logits, output[:3].detach())
    if method == "gradient":
        torch.testing.assert_close(found.relevance, torch.autograd.grad(output[:, 1].sum(), x)[0][:3])
    else:
        torch.testing.assert_close(found.relevance.flatten(1).sum(1) + found.absorbed, found.logits[:, 1])


def test_samples_that_mix_in_a_batch_of_fixed_size_are_refused():
    model = One(lambda m, z, x: m.head(z.view(4, 8, -1).softmax(0).mean(2))).eval()
    with pytest.raises(UnsupportedOpError, match="mixes the samples"):
        relprop.capture(model, torch.randn(4, 3, 12, 12))


class Mixing(nn.Module):
    def __init__(self, mix):
        super().__init__()
        self.mix, self.conv, self.head = mix, nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.mix(self.conv(x).relu().mean((2, 3))))


@torch.library.custom_op("relprop_tests::over_batch", mutates_args=())
def over_batch(x: Tensor) -> Tensor:
    return x - x.mean(0, keepdim=True)


@over_batch.register_fake
def _(x):
    return torch.empty_like(x)


@torch.library.custom_op("relprop_tests::over_channels", mutates_args=())
def over_channels(x: Tensor) -> Tensor:
    return x - x.mean(1, keepdim=True)


@over_channels.register_fake
def _(x):
    return torch.empty_like(x)


MIXED = {
    "softmax": lambda z: z.softmax(0),
    "cumsum": lambda z: z.cumsum(0),
    "sort": lambda z: z.sort(0)[0],
    "roll": lambda z: z + z.roll(1, 0),
    "padding": lambda z: F.pad(z, (0, 0, 1, 0))[:-1] + z,
    "flip": lambda z: z + z.flip(0),
    "normalize": lambda z: F.normalize(z, dim=0),
    "maximum": lambda z: z / z.max(),
    "argmax over the batch": lambda z: z * (z.argmax() + 1),
    "comparison": lambda z: z * (z >= z.amax(0)),
    "mean subtracted": lambda z: z - z.mean(0),
    "batch statistics": lambda z: F.batch_norm(z, None, None, training=True),
    "similarity": lambda z: (z @ z.T) @ z,
    "the first sample": lambda z: z + z[:1],
    "rows by index": lambda z: z + z[(torch.arange(len(z)) + 1) % len(z)],
    "all into the first": lambda z: z.index_add(0, torch.zeros(len(z), dtype=torch.long), z),
    "all into the last": lambda z: z.index_add(0, torch.full((len(z),), -1) % len(z), z),
    "the last into the first": lambda z: z.index_add(0, torch.zeros(1, dtype=torch.long), z[-1:]),
    "largest into the first": lambda z: z.scatter_add(0, torch.zeros_like(z, dtype=torch.long), z),
    "an op of one's own": torch.ops.relprop_tests.over_batch,
    "attention over the batch": lambda z: F.scaled_dot_product_attention(z[None], z[None], z[None])[0],
}
SEPARATE = {
    "softmax": lambda z: z.softmax(1),
    "sort": lambda z: z.sort(1)[0],
    "rows by index": lambda z: z[torch.arange(len(z)), :] * 2,
    "transposed": lambda z: z.T.cumsum(0).T,
    "two towers": lambda z: torch.cat([z, 2 * z]).relu().unflatten(0, (2, -1)).mean(0),
    "two towers, sliced": lambda z: sum(torch.cat([z, 2 * z])[i * len(z) : (i + 1) * len(z)] for i in range(2)),
    "two towers, chunked": lambda z: torch.stack(torch.cat([z, 2 * z]).chunk(2), 1).amax(1),
    "an index per sample": lambda z: z * z.gather(1, z.argmax(1, keepdim=True)),
    "attention": lambda z: F.scaled_dot_product_attention(*[z.unflatten(1, (2, 4))] * 3).flatten(1),
    "instance norm": lambda z: F.instance_norm(z.unflatten(1, (2, 4))).flatten(1),
    "masked": lambda z: z.masked_fill(z < z.mean(1, keepdim=True), 0.0),
    "no padding of the batch": lambda z: F.pad(z, (1, 0, 0, 0))[:, :-1] + z,
}


def test_samples_mixed_with_a_mask_are_refused_and_not_paired_with_each_mask():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x, mask):
            return self.head(x / x.abs().max()) * mask

    x = torch.randn(2, 4, dtype=torch.float64)
    with pytest.raises(UnsupportedOpError, match="mix the samples"):
        relprop.explain(Scaled().double().eval(), {"x": x, "mask": torch.ones(2, 1, dtype=torch.long)}, 0, method="lrp-epsilon")


def test_what_is_refused_first_is_told_where_another_way_fails_too():
    """With one mask for all samples there are not as many masks as samples, which is an error of torch."""

    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(5, 3)

        def forward(self, x, mask):
            z = torch.cat([x, mask], 1)
            return self.head(z) * z.masked_select(z > 0).sum()

    x = torch.randn(2, 4, dtype=torch.float64)
    with pytest.raises(UnsupportedOpError, match=r"size of what aten::masked_select"):
        relprop.explain(Joined().double().eval(), {"x": x, "mask": torch.ones(2, 1, dtype=torch.long)}, 0, method="lrp-epsilon")


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("method", ["lrp-epsilon", "gradient"])
def test_mixed_samples_are_refused(name, method):
    with pytest.raises(UnsupportedOpError, match="mix the samples"):
        relprop.Explainer(Mixing(MIXED[name]).double().eval(), torch.randn(3, 3, 8, 8, dtype=torch.double), method)


@pytest.mark.parametrize("name", SEPARATE)
def test_separate_samples_are_explained_alike_alone_and_among_mates(name):
    torch.manual_seed(0)
    model, x = Mixing(SEPARATE[name]).double().eval(), torch.randn(3, 3, 8, 8, dtype=torch.double)
    explainer = relprop.Explainer(model, x, "lrp-epsilon")
    together = explainer(x, 1)
    assert not together.notes
    for i in range(3):
        torch.testing.assert_close(explainer(x[i : i + 1], 1).relevance, together.relevance[i : i + 1])
        torch.testing.assert_close(together.logits[i : i + 1], model(x[i : i + 1]).detach())


def test_an_op_of_ones_own_that_keeps_samples_apart():
    model, x = Mixing(torch.ops.relprop_tests.over_channels).double().eval(), torch.randn(3, 3, 8, 8, dtype=torch.double)
    assert relprop.capture(model, x).dynamic


class Dynamic(nn.Module):
    """A convolution whose kernels are made for every sample, which groups keep apart."""

    def __init__(self, out):
        super().__init__()
        self.out, self.conv, self.route, self.head = out, nn.Conv2d(3, 8, 3), nn.Linear(8, 3), nn.Linear(out, 5)
        self.bank = nn.Parameter(torch.randn(3, out * 8 * 9) * 0.1)

    def forward(self, x):
        z = self.conv(x).relu()
        b, c, h, w = z.shape
        kernels = (self.route(z.mean((2, 3))).sigmoid() @ self.bank).view(b * self.out, c, 3, 3)
        y = F.conv2d(z.reshape(1, b * c, h, w), kernels, padding=1, groups=b).view(b, self.out, h, w)
        return self.head(y.relu().mean((2, 3)))


@pytest.mark.parametrize("out", [8, 6])
@pytest.mark.parametrize("method", ["rap", "lrp-epsilon", "gradient"])
def test_convolutions_with_kernels_of_their_own(out, method):
    torch.manual_seed(0)
    model, x = Dynamic(out).double().eval(), torch.randn(3, 3, 8, 8, dtype=torch.double)
    explainer = relprop.Explainer(model, x, method)
    together = explainer(x, 1)
    for i in range(3):
        torch.testing.assert_close(explainer(x[i : i + 1], 1).relevance, together.relevance[i : i + 1])


class ZeroShot(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 6)

    def forward(self, image, text):
        features = F.normalize(self.head(self.conv(image).relu().mean((2, 3))), dim=-1)
        return 10 * features @ F.normalize(text, dim=-1).T


@pytest.mark.parametrize(("images", "texts"), [(1, 1), (1, 4), (2, 2), (3, 4)])
@pytest.mark.parametrize("method", ["lrp-epsilon", "gradient"])
def test_samples_may_share_an_input(images, texts, method):
    torch.manual_seed(0)
    model, x, text = ZeroShot().double().eval(), torch.randn(images, 3, 8, 8).double(), torch.randn(texts, 6).double()
    found = relprop.explain(model, (x, text), 0, method=method)
    torch.testing.assert_close(found.logits, model(x, text).detach())
    of_image, of_text = found.relevance
    assert of_image.shape == x.shape
    assert of_text.shape == (images, *text.shape)
    for i in range(images):
        alone = relprop.explain(model, (x[i : i + 1], text), 0, method=method).relevance
        torch.testing.assert_close((of_image[i : i + 1], of_text[i : i + 1]), tuple(alone))
