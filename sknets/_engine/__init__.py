"""The ways weights are fitted: by epochs, by full batches, by the perceptron's rule."""

from sknets._engine._autograd import AutogradStep
from sknets._engine._column_order import ColumnOrder, all_columns, order_columns
from sknets._engine._compile import compiled
from sknets._engine._conv_step import ConvStep, make_conv_step
from sknets._engine._cuda_graphs import (
    MOST_BATCHES,
    BlockGraphs,
    CudaGraph,
    make_block_graphs,
)
from sknets._engine._dense import DenseStep, has_closed_form, make_dense_step
from sknets._engine._dense_program import DenseLayer
from sknets._engine._epochs import EpochLoop, Hooks, Training
from sknets._engine._flat import FlatParameters
from sknets._engine._full_batch import FullBatchResult, minimise
from sknets._engine._linear_step import LinearStep
from sknets._engine._logistic_objective import LogisticObjective
from sknets._engine._logistic_stack import LogisticStack, StackedModel
from sknets._engine._logistic_stack_device import DeviceFold, DeviceLogisticStack
from sknets._engine._module_lbfgs import FullBatch, train_lbfgs
from sknets._engine._numba_epochs import (
    NUMBA_ACTIVATIONS,
    NumbaEpochs,
    check_numba,
    make_numba_epoch,
)
from sknets._engine._numba_extra import import_numba
from sknets._engine._numba_fold import NumbaFold
from sknets._engine._numba_logistic_stack import NumbaLogisticStack
from sknets._engine._parts import run_parts
from sknets._engine._progress import HISTORY_COLUMNS, Progress, make_history, say
from sknets._engine._row_blocks import blocks_of_csr, blocks_of_rows
from sknets._engine._stack import MakeStep, Stack, state_of
from sknets._engine._stack_dense import make_stacked_dense_step
from sknets._engine._stack_fold import Fold, PartedFold, SparseFold
from sknets._engine._stack_member import Member, Rate
from sknets._engine._stack_module import (
    ModuleNotMapped,
    StackedModuleStep,
    check_modules,
    dropout_rates,
)
from sknets._engine._stack_solvers import STACK_SOLVERS, run_stack
from sknets._engine._step import Step
from sknets._engine._threads import useful_parts, useful_threads
from sknets._engine._validation import Validation, logits_in_blocks

__all__ = [
    "HISTORY_COLUMNS",
    "MOST_BATCHES",
    "NUMBA_ACTIVATIONS",
    "STACK_SOLVERS",
    "AutogradStep",
    "BlockGraphs",
    "ColumnOrder",
    "ConvStep",
    "CudaGraph",
    "DenseLayer",
    "DenseStep",
    "DeviceFold",
    "DeviceLogisticStack",
    "EpochLoop",
    "FlatParameters",
    "Fold",
    "FullBatch",
    "FullBatchResult",
    "Hooks",
    "LinearStep",
    "LogisticObjective",
    "LogisticStack",
    "MakeStep",
    "Member",
    "ModuleNotMapped",
    "NumbaEpochs",
    "NumbaFold",
    "NumbaLogisticStack",
    "PartedFold",
    "Progress",
    "Rate",
    "SparseFold",
    "Stack",
    "StackedModel",
    "StackedModuleStep",
    "Step",
    "Training",
    "Validation",
    "all_columns",
    "blocks_of_csr",
    "blocks_of_rows",
    "check_modules",
    "check_numba",
    "compiled",
    "dropout_rates",
    "has_closed_form",
    "import_numba",
    "logits_in_blocks",
    "make_block_graphs",
    "make_conv_step",
    "make_dense_step",
    "make_history",
    "make_numba_epoch",
    "make_stacked_dense_step",
    "minimise",
    "order_columns",
    "run_parts",
    "run_stack",
    "say",
    "state_of",
    "train_lbfgs",
    "useful_parts",
    "useful_threads",
]
