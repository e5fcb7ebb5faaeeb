"""Why needle does not have names that PyTorch has, and what to write instead.

Errors read these tables, and `tools/torch_names.py`, which publishes them. Neither is read by
`import needle`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from .torch_namespace import NAMES

# What to write instead, by the name of PyTorch's module; the reasons are more general.
INSTEAD: dict[str, dict[str, str]] = {
    "torch": {
        "is_anomaly_check_nan_enabled": "ndl.is_anomaly_enabled()",
        "set_anomaly_enabled": "ndl.autograd.set_detect_anomaly(True)",
        "complex64": "needle.fft.ComplexTensor, a pair of real Tensors",
        "complex128": "needle.fft.ComplexTensor, a pair of real Tensors",
        "int8": "ndl.int32",
        "int16": "ndl.int32",
        "multiprocessing": "data.DataLoader(…, num_workers=n)",
        "vmap": "a batch axis; functions broadcast over leading axes",
    },
    "torch.nn": {
        "Buffer": "self.register_buffer(name, tensor)",
        "CrossMapLRN2d": "nn.LocalResponseNorm",
        "NLLLoss2d": "nn.NLLLoss",
    },
    "torch.optim": {
        "SparseAdam": "optim.Adam, whose gradients are dense",
    },
}  # fmt: skip

# Why names are absent; the first that fits counts.
REASONS: tuple[tuple[str, str], ...] = (
    (r"[sS]parse|_csr|_csc|_bsr|_bsc|_coo|crow_|ccol_|(row|col)_indices|coalesce|^indices|^values|"
     r"smm$|spmm|dense_dim|to_dense|dsmm", "sparse Tensors"),
    (r"quant|^q_|qscheme|fbgemm|int_repr|observer", "quantized Tensors"),
    (r"complex|conj|^real$|^imag$|angle|polar|^c(double|float|half)$|chalf|isreal|_neg$|is_neg|eig|"
     r"vdot", "complex Tensors; `needle.fft.ComplexTensor` is a pair of real ones"),
    (r"mkldnn|cudnn|miopen|ipu|xpu|mtia|xla|vulkan|mps|maia|metal|hpu", "other back ends"),
    (r"named|names|refine|align|rename", "named axes"),
    (r"_copy$|_scatter$|^sym_|unsafe|slice_inverse|alias|detach_copy|native_|convolution$|_cell$|"
     r"^rnn_|batch_norm_|norm_except|segment|fused_moving|constant_pad|embedding_renorm|prelu$|"
     r"frobenius|nuclear|grid_sampler|cudnn_grid|affine_grid_gen|_with_indices$|handle_torch|"
     r"has_torch|boolean_dispatch|assert_int|multi_head_attention_forward|grouped_mm|scaled_mm|"
     r"scaled_grouped|linear_cross", "what PyTorch's own layers and compilers call"),
    (r"autocast|anomaly|deterministic|^set_|^get_|^is_|init_num|interop|parse_|import_ir|merge_type|"
     r"unify_type|typename|fork$|wait$|compile$|cond$|while_loop|vmap|promote_types|can_cast|"
     r"result_type|profiler_|prepare_multi|classproperty|thread_safe|^seed$|initial_seed|range$|"
     r"from_file|frombuffer|scalar_tensor|load$|save$|compiled_with|to_dlpack",
     "settings and parts of PyTorch's machinery"),
    (r"storage|data_ptr|record_stream|share_memory|pin_memory|^set_$|grad_fn|output_nr|as_subclass|"
     r"volatile|reinforce|module_load|hash_tensor|dim_order|layout|retains_grad|map2?_$|apply_|"
     r"post_accumulate|^name$|^new$|get_device|resize|element_size",
     "memory and graph from inside"),
    (r"DataPipe|DataChunk|guaranteed|runtime_validation|functional_datapipe|non_deterministic|"
     r"DistributedSampler|DataParallel", "pipelines and several machines"),
    (r"Uninitialized|Container|NLLLoss2d|CrossMap|RNNBase|RNNCellBase|^Buffer$|Options$|Any$|Tensor$|"
     r"Counter$|partial$|^ref$|Supports|Optimizer$|Optional$", "not for programs"),
    (r"Transform$", "transformed distributions"),
)  # fmt: skip


def reason(group: str, name: str) -> str:
    """Why needle does not have a name of PyTorch's module `group`."""
    if group == "torch" and name.endswith("_"):
        return "forms that change a Tensor are its methods"
    for pattern, why in REASONS:
        if re.search(pattern, name):
            return why
    return "not written yet"


def explained(group: str, name: str, known: Iterable[str]) -> str:
    """The end of an error for a name that is not among those `known`: why, or which was meant."""
    if name.startswith("_"):
        return ""
    instead = INSTEAD.get(group, {}).get(name)
    if instead is not None:
        return f"; write {instead}"
    if name in NAMES.get(group, "").split():
        return f"; PyTorch's {name} is absent: {reason(group, name)}"
    known = list(known)
    close = [other for other in known if other.lower() == name.lower()]
    close = close or difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    return f"; did you mean {' or '.join(close)}?" if close else ""
