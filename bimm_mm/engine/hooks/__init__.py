"""Hooks: what mmengine's runner calls while it trains, one file each."""

from .broken_samples_hook import BrokenSamplesHook
from .checkpoint_contents_hook import CheckpointContentsHook
from .checkpoint_hook import WholeCheckpointHook
from .compile_hook import CompileHook
from .end_stage_hook import EndStageHook
from .exact_resume_hook import ExactResumeHook
from .explained_variance_hook import ExplainedVarianceHook
from .fault_injector_hook import FaultInjectorHook
from .finite_loss_hook import FiniteLossHook
from .garbage_collection_hook import GarbageCollectionHook
from .gradient_norm_hook import GradientNormHook
from .matmul_precision_hook import MatmulPrecisionHook
from .peer_watch_hook import PeerWatchHook
from .reconstruction_hook import ReconstructionHook
from .representation_hook import RepresentationHook
from .resize_moments_hook import ResizeMomentsHook
from .run_summary_hook import RunSummaryHook
from .running_statistics_hook import SyncRunningStatisticsHook
from .short_history_hook import ShortHistoryHook
from .stop_on_signal_hook import StopOnSignalHook
from .threads_hook import ThreadsHook
from .worker_processes_hook import WorkerProcessesHook

__all__ = [
    'BrokenSamplesHook',
    'CheckpointContentsHook',
    'CompileHook',
    'EndStageHook',
    'ExactResumeHook',
    'ExplainedVarianceHook',
    'FaultInjectorHook',
    'FiniteLossHook',
    'GarbageCollectionHook',
    'GradientNormHook',
    'MatmulPrecisionHook',
    'PeerWatchHook',
    'ReconstructionHook',
    'RepresentationHook',
    'ResizeMomentsHook',
    'RunSummaryHook',
    'ShortHistoryHook',
    'StopOnSignalHook',
    'SyncRunningStatisticsHook',
    'ThreadsHook',
    'WholeCheckpointHook',
    'WorkerProcessesHook',
]
