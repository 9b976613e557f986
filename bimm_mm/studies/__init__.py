"""Studies: sets of short pretraining runs that are compared. tools/ablate.py runs them."""

from .plan import Study, read_study
from .report import Report
from .runner import StudyRunner

__all__ = ['Report', 'Study', 'StudyRunner', 'read_study']
