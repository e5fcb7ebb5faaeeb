"""Files for TensorBoard, as `torch.utils.tensorboard` writes them."""

from .writer import SummaryWriter

__all__ = ["SummaryWriter"]
