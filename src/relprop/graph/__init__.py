"""From an ``nn.Module`` to a normalized graph of ATen ops."""
