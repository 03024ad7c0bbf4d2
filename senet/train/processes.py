"""One command in many processes, as ``torchrun`` and ``accelerate launch`` start them."""

from __future__ import annotations

from accelerate import PartialState

__all__ = ["leave_together"]


def leave_together() -> bool:
    """Ends the work of many processes: waits for all, so that none dies of another's having left.

    Returns:
        Whether this is the process that speaks for all.
    """
    state = PartialState()
    state.wait_for_everyone()
    state.destroy_process_group()
    return state.is_main_process
