"""How many requests, and how many of their bytes, are in the house at once."""

from __future__ import annotations

from .limits import ServingLimits
from .refusals import BusyError, RequestRefusedError

__all__ = ["Admission", "Ticket", "too_large"]


class Admission:
    """Lets requests in while there is room, and refuses the others at once instead of letting them pile up.

    It is used by the event loop alone.

    Args:
        limits (`ServingLimits`): how much room there is.
    """

    def __init__(self, limits: ServingLimits) -> None:
        self.limits = limits
        self.num_requests = 0
        self.num_bytes = 0

    def enter(self) -> Ticket:
        """Let a request in.

        Returns:
            `Ticket`: leave with it, whatever happens.

        Raises:
            BusyError: `max_queue` are in.
        """
        if self.num_requests >= self.limits.max_queue:
            raise BusyError(f"{self.limits.max_queue} requests are waiting already; try again later")
        self.num_requests += 1
        return Ticket(self)


class Ticket:
    """One request's part of the room.

    Args:
        admission (`Admission`): the room.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._num_bytes = 0

    def hold(self, num_bytes: int) -> None:
        """Hold so many bytes instead of those that were held.

        Args:
            num_bytes (`int`): of the body, or of the samples.

        Raises:
            BusyError: there is no room for them now.
        """
        admission = self._admission
        others = admission.num_bytes - self._num_bytes
        if num_bytes > self._num_bytes and others + num_bytes > admission.limits.max_pending_bytes:
            raise BusyError("the recordings that wait fill the memory that is set aside for them; try again later")
        admission.num_bytes = others + num_bytes
        self._num_bytes = num_bytes

    def leave(self) -> None:
        """Give everything back."""
        self.hold(0)
        self._admission.num_requests -= 1


def too_large(limits: ServingLimits, num_bytes: int | None = None) -> RequestRefusedError:
    """What is said of a body that is too large.

    Args:
        limits (`ServingLimits`): of the service.
        num_bytes (`int`, *optional*): of the body, where that is known.
    """
    has = "too many" if num_bytes is None else str(num_bytes)
    return RequestRefusedError(413, f"the body has {has} bytes; a file may have {limits.max_bytes}")
