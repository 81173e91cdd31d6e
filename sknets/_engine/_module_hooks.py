"""Hooks: what is called beside a module's own code."""

from __future__ import annotations

from torch import nn
from torch.nn.modules import module as torch_module


def has_forward_hooks(module: nn.Module) -> bool:
    """Whether something is called around the forward pass of a module, or of any at all."""
    of_all = torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks
    layers = module.modules()
    return bool(of_all) or any(m._forward_hooks or m._forward_pre_hooks for m in layers)


def has_gradient_hooks(module: nn.Module) -> bool:
    """Whether something is called with gradients of a module, or of any at all."""
    of_all = torch_module._global_backward_hooks or torch_module._global_backward_pre_hooks
    layers, parameters = module.modules(), module.parameters()
    return (
        bool(of_all)
        or any(m._backward_hooks or m._backward_pre_hooks for m in layers)
        or any(p._backward_hooks or p._post_accumulate_grad_hooks for p in parameters)
    )
