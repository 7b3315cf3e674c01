"""How a job of several ranks ends: a rank that fails, dies or hangs takes the others with it.

Collectives alone do not do that: a rank that waits sees a closed connection or its time-out, does
not know whose fault it is, and a rank that hangs elsewhere never notices. Ranks therefore also talk
through the store they met at: whoever fails says why, and a thread of every rank listens.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from slotreel.errors import UserError

log = logging.getLogger(__name__)
_LISTEN_S = 0.5  # between two looks at the store
_ANSWER_S = 4.0  # longest wait for the others' answers
_LEAVE_S = 30.0  # longest time to clean up after another rank failed
_ENDED = "ended"


class Peers:
    """The other ranks of a job.

    Args:
        rank: of this process among ``size``.
        size: number of ranks.
        limit: ``trainer.timeout_minutes``: how long to wait for the others to start.

    Raises:
        UserError: some did not start in time.
    """

    def __init__(self, rank: int, size: int, limit: timedelta) -> None:
        self.rank, self.size, self.limit = rank, size, limit
        self.store = _meet(rank, limit, serves=rank == 0)
        self._own = _meet(rank, limit, serves=False)  # a waiting store blocks whoever shares it
        self._left = threading.Event()
        self._lock = threading.Lock()
        self._known: dict[int, dict[str, str]] = {}
        self._alone = False  # nobody can be asked any more
        self._wait_for_all()
        self._thread = threading.Thread(target=self._listen, name="peers", daemon=True)
        self._thread.start()

    def _wait_for_all(self) -> None:
        self._own.set(f"here/{self.rank}", "")
        keys = [f"here/{rank}" for rank in range(self.size)]
        try:
            self._own.wait(keys, self.limit)
        except RuntimeError as error:
            late = [r for r, key in enumerate(keys) if not self._own.check([key])]
            raise UserError(
                f"{_ranks(late)} of {self.size} did not start within trainer.timeout_minutes="
                f"{_minutes(self.limit)}; look at what they said, or type a larger "
                "trainer.timeout_minutes"
            ) from error

    def fail(self, error: BaseException) -> BaseException:
        """Tell the others about an error of this rank, and hear what they have to say.

        Returns:
            What to raise: the error itself, or a UserError if it is only what another rank's end
            looks like from here.
        """
        finish_in_peace()
        lost = _is_lost_contact(error)
        text = _first_line(error) if lost else "".join(traceback.format_exception(error))
        self._tell("lost" if lost else "failed", text)
        deadline = time.monotonic() + _ANSWER_S
        while not self._settled(self._hear(), lost) and time.monotonic() < deadline:
            time.sleep(0.1)
        return UserError(self._describe(text)) if lost else error

    def close(self) -> None:
        """Stop listening: this rank is done."""
        self._left.set()
        self._thread.join(5)

    def _settled(self, said: dict[int, dict[str, str]], lost: bool) -> bool:
        """Whether all answered; ranks that waited with this one take a moment to notice."""
        busy = any(answer["kind"] == "busy" for answer in said.values())
        return self._alone or (len(said) == self.size and not (lost and busy))

    def _tell(self, kind: str, text: str) -> None:
        with self._lock:
            self._known[self.rank] = {"kind": kind, "text": text}
            try:
                self._own.set(f"end/{self.rank}", json.dumps(self._known[self.rank]))
                self._own.set(_ENDED, "")
            except RuntimeError:  # whoever served the store is gone
                self._alone = True

    def _hear(self) -> dict[int, dict[str, str]]:
        """What every rank that answered said, by rank."""
        with self._lock:
            try:
                for rank in range(self.size):
                    if self._own.check([f"end/{rank}"]):
                        self._known[rank] = json.loads(self._own.get(f"end/{rank}"))
            except RuntimeError:
                self._alone = True
            return dict(self._known)

    def _over(self) -> bool:
        """Whether some rank has failed, or nobody can tell any more."""
        with self._lock:
            try:
                return self._own.check([_ENDED])
            except RuntimeError:
                self._alone = True
                return True

    def _listen(self) -> None:
        """In a thread: answer once a rank has failed, and end this process if it does not leave."""
        while not self._left.wait(_LISTEN_S):
            if self._over():
                break
        else:
            return
        if self.rank not in self._hear():
            self._tell("busy", _main_stack())
        if self._left.wait(min(_LEAVE_S, self.limit.total_seconds())):
            return
        self._hear()
        log.error("%s\nThis rank was here:\n%s", self._describe(""), _main_stack())
        logging.shutdown()
        os._exit(1)  # the main thread may never come back

    def _describe(self, seen: str) -> str:
        """Whose fault it is, as far as this rank knows."""
        others = {rank: said for rank, said in self._known.items() if rank != self.rank}
        by_kind = {
            kind: [rank for rank, said in sorted(others.items()) if said["kind"] == kind]
            for kind in ("failed", "busy", "lost")
        }
        missing = [rank for rank in range(self.size) if rank != self.rank and rank not in others]
        ends = f"ends because of another rank ({seen})" if seen else "is ended: another rank failed"
        lines = [f"rank {self.rank} of {self.size} {ends}"]
        for rank in by_kind["failed"]:
            lines.append(f"rank {rank} failed:\n{others[rank]['text'].rstrip()}")
        if self._alone and not others:
            who = "torchrun" if _under_torchrun() else "rank 0"
            lines.append(f"{who} did not answer: killed (out of memory, a lost node)")
        elif missing and not self._alone:
            lines.append(
                f"{_ranks(missing)} did not answer: killed (out of memory, a lost node), or stuck "
                "inside a library"
            )
        elif not by_kind["failed"]:
            for rank in by_kind["busy"]:
                lines.append(
                    f"rank {rank} hangs: it did not come to the others within "
                    f"trainer.timeout_minutes={_minutes(self.limit)}. It was here:\n"
                    f"{others[rank]['text'].rstrip()}"
                )
            if by_kind["lost"] and not by_kind["busy"]:
                lines.append(f"{_ranks(by_kind['lost'])} waited for this one in vain")
        lines.append("The last checkpoint is good; go on with ./train.py resume=RUN")
        return "\n".join(lines)


def finish_in_peace() -> None:
    """Let a rank that ends say why: torchrun sends SIGTERM as soon as one rank has died."""
    here = threading.current_thread() is threading.main_thread()
    if here and dist.is_available() and dist.is_initialized():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _meet(rank: int, limit: timedelta, serves: bool) -> Any:
    """A connection to the store of the job, which torchrun serves, or else rank 0."""
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        store = TCPStore(
            host,
            port,
            is_master=serves and not _under_torchrun(),
            timeout=limit,
            wait_for_workers=False,
        )
    except RuntimeError as error:
        raise UserError(
            f"rank {rank} could not reach rank 0 at {host}:{port} within trainer.timeout_minutes="
            f"{_minutes(limit)} ({_first_line(error)})"
        ) from error
    return PrefixStore(f"slotreel/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)


def _is_lost_contact(error: BaseException) -> bool:
    """Whether an error comes from a collective and not from this rank's own work."""
    words = ("gloo", "nccl", "processgroup", "c10d")
    return isinstance(error, dist.DistError) or (
        type(error) is RuntimeError and any(word in str(error).lower() for word in words)
    )


def _main_stack() -> str:
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return "" if frame is None else "".join(traceback.format_stack(frame)[-8:])


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _minutes(limit: timedelta) -> str:
    return f"{limit.total_seconds() / 60:g}"


def _ranks(ranks: list[int]) -> str:
    return ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(map(str, ranks))


def _under_torchrun() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
