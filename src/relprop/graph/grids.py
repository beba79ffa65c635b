"""Which values are grids over an image."""


def divides(image: tuple[int, int], height: int, width: int) -> bool:
    """Whether a grid is made of equal square patches of the image."""
    return height > 1 and width > 1 and image[0] % height == image[1] % width == 0 and image[0] // height == image[1] // width


def channels_last(shape: tuple[int, int, int], image: tuple[int, int]) -> bool:
    """Whether a value of this shape, without its batch, is a grid with its channels last: the first two make patches, the last two do not."""
    return divides(image, *shape[:2]) and not divides(image, *shape[1:])
