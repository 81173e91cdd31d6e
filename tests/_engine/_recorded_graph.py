"""What a CUDA graph does, on any device: kernels are recorded once, and then run without Python."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_REFUSED = {
    torch.ops.aten._local_scalar_dense.default: "a number was asked of the device",
    torch.ops.aten.nonzero.default: "a shape depends on values",
    torch.ops.aten.masked_select.default: "a shape depends on values",
    torch.ops.aten.lift_fresh.default: "Python's numbers were copied to the device",
}


class RecordedGraph(TorchDispatchMode):
    """Stands in for `sknets._engine.CudaGraph`.

    Its kernels run once while they are recorded, which takes the place of the first launch.
    """

    def __init__(self):
        super().__init__()
        self._kernels = []
        self._has_run = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _REFUSED:
            raise RuntimeError(f"{_REFUSED[func]}, which a capture does not allow")
        result = func(*args, **kwargs)
        self._kernels.append((func, args, kwargs, result))
        return result

    def capture(self, call):
        with self:
            result = call()
        self._has_run = True
        return result

    def launch(self):
        if self._has_run:
            self._has_run = False
            return
        with torch.no_grad():
            for func, args, kwargs, result in self._kernels:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)
