"""A study by Optuna: plans beyond the walk's, in a storage that processes share and that a killed one leaves whole."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.sensitivity import Part
from edgekit.search.journal_lock import JournalLock, make_lock
from edgekit.search.space import FLOAT32, Choice
from edgekit.targets.errors import EdgekitError, ModelError, ToolError

# Plans in a row that were there before, after which there is nothing left to find.
_MOST_REPEATS = 24
# Seconds after which a trial without a process is taken for one that was killed as it began.
_BEGINNING = 60.0
# Seconds between looks at what other processes say.
_PAUSE = 0.02
# How the first line of a journal begins; other files are left as they are.
_JOURNAL = b'{"op_code"'
_PROCESS, _REFUSED, _REPEATED, _OVER = "process", "refused", "repeated", "over"

Params = Mapping[str, str]
Goals = tuple[float, ...]


@dataclass(frozen=True)
class Tried:
    """A plan that a study knows: what is to be small of it, in the order of the study's goals."""

    choice: Choice
    goals: Goals


class Study:
    """Chooses formats for groups of parts, by trying.

    Several processes and machines may run one study at the same time: trials are counted together, and no plan is
    tried twice. A trial of a process that was killed is given to whoever comes next.

    Args:
        groups: Parts that have one format.
        subject: Digest of what is searched: studies of different networks do not mix.
        storage: A journal file, a database's URL, or None to keep nothing.
        seed: Of the sampler.
        goals: How many figures are to be small.

    Raises:
        ToolError: Optuna is missing.
        EdgekitError: The storage cannot be used.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[Part]],
        subject: str,
        storage: str | Path | None = None,
        *,
        seed: int = 0,
        goals: int = 3,
    ) -> None:
        self._optuna = import_optuna()
        self._groups = {group[0].name: list(group) for group in groups}
        self._options = {
            name: [format.value for format in (*group[0].formats, FLOAT32)]
            for name, group in self._groups.items()
        }
        spelled = json.dumps(
            [{n: [p.name for p in g] for n, g in self._groups.items()}, self._options]
        )
        digest = hashlib.sha256(f"{subject}\n{spelled}\n{goals}".encode()).hexdigest()
        try:
            self._study = self._optuna.create_study(
                storage=self._open(storage),
                study_name=f"edgekit-{digest[:24]}",
                directions=["minimize"] * goals,
                load_if_exists=True,
            )
        except Exception as error:  # Optuna's, a database's and the file system's share no base.
            raise EdgekitError(f"study={str(storage)!r} cannot be used: {error}") from error
        # A study that goes on draws other numbers than those that it began with.
        count = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed + count, multivariate=True)

    def run(
        self,
        trials: int,
        evaluate: Callable[[Choice], Goals],
        seeds: Sequence[Choice] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Tried]:
        """Tries plans until the study knows ``trials``, those of other processes and former runs included.

        Args:
            trials: How many.
            evaluate: Builds and measures one; a ModelError says that no form holds it.
            seeds: Plans to begin with.
            progress: Called with how many are done, and how many there will be.

        Returns:
            All that the study knows, in the order of their trials.
        """
        for seed in seeds:
            self._study.enqueue_trial(dict(self._spell(seed)), skip_if_exists=True)
        repeats = 0
        while repeats < _MOST_REPEATS:
            self._give_back()
            done = len(self._list_counted())
            if progress is not None:
                progress(min(done, trials), trials)
            if done >= trials:
                break
            trial = self._study.ask()
            trial.set_user_attr(_PROCESS, _name_process())
            params = {
                name: trial.suggest_categorical(name, options)
                for name, options in self._options.items()
            }
            before = self._wait_for(trial.number)
            if len(before) >= trials:
                # Others began as many meanwhile.
                self._fail(trial, _OVER, "")
                break
            if any(t.params == params for t in before):
                repeats += 1
                self._fail(trial, _REPEATED, "")
                continue
            repeats = 0
            try:
                goals = evaluate(self._read(params))
            except ModelError as error:
                self._fail(trial, _REFUSED, str(error))
            else:
                self._study.tell(trial, list(goals))
        return self.list_tried()

    def list_tried(self) -> list[Tried]:
        """Returns the plans that were measured, in the order of their trials.

        Raises:
            EdgekitError: The storage holds a plan of other parts or formats.
        """
        state = self._optuna.trial.TrialState.COMPLETE
        try:
            return [
                Tried(self._read(trial.params), tuple(trial.values))
                for trial in self._study.get_trials(deepcopy=False, states=(state,))
            ]
        except (KeyError, ValueError) as error:
            raise EdgekitError(
                f"the study is damaged: it holds a plan that there cannot be: {error}"
            ) from error

    def _open(self, storage: str | Path | None) -> Any:
        if storage is None:
            return None
        if "://" in str(storage):
            return str(storage)
        path = Path(storage)
        path.parent.mkdir(parents=True, exist_ok=True)
        journal = self._optuna.storages.journal
        lock = make_lock(path)
        if lock is not None and path.exists():
            _drop_torn_line(path, lock)
        return self._optuna.storages.JournalStorage(journal.JournalFileBackend(str(path), lock))

    def _spell(self, choice: Choice) -> dict[str, str]:
        formats = choice.by_part
        return {name: formats.get(name, FLOAT32).value for name in self._groups}

    def _read(self, params: Params) -> Choice:
        return Choice.of(
            {
                part.name: NumberFormat(params[name])
                for name, group in self._groups.items()
                for part in group
            }
        )

    def _list_counted(self) -> list[Any]:
        """Returns the trials that are done, refused, or under way."""
        states = self._optuna.trial.TrialState
        return [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state in (states.COMPLETE, states.RUNNING)
            or (trial.state == states.FAIL and _REFUSED in trial.user_attrs)
        ]

    def _wait_for(self, number: int) -> list[Any]:
        """Returns the trials that count before ``number``, once each has said which plan it tries."""
        while True:
            before = [trial for trial in self._list_counted() if trial.number < number]
            unsaid = [t for t in before if t.params.keys() != self._options.keys()]
            if all(_is_gone(trial) for trial in unsaid):
                return before
            time.sleep(_PAUSE)

    def _fail(self, trial: Any, why: str, text: str) -> None:
        trial.set_user_attr(why, text)
        self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)

    def _give_back(self) -> None:
        """Ends the trials of processes that are gone, and lets their plans be tried again."""
        running = self._optuna.trial.TrialState.RUNNING
        for trial in self._study.get_trials(deepcopy=False, states=(running,)):
            if not _is_gone(trial):
                continue
            try:
                self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
            except (RuntimeError, ValueError):
                continue  # Another process was first.
            if trial.params.keys() == self._options.keys():
                self._study.enqueue_trial(dict(trial.params))


def _drop_torn_line(path: Path, lock: JournalLock) -> None:
    """Takes off what a writer that was cut off left of a line: the next one would go on in it, and spoil the file."""
    lock.acquire()
    try:
        with path.open("r+b") as file:
            content = file.read()
            if content.startswith(_JOURNAL) and not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


def import_optuna() -> Any:
    """Returns Optuna's module, which then warns alone.

    Raises:
        ToolError: It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ToolError(
            "a study needs Optuna: pip install 'edgekit[search]'; without trials and study the search walks along "
            "the sensitivities alone"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _name_process() -> str:
    return f"{socket.gethostname()} {os.getpid()} {_read_start(os.getpid())}"


def _read_start(pid: int) -> str:
    """Returns when a process of this machine began, in the kernel's words; "" where it is gone or that is not told."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


def _is_gone(trial: Any) -> bool:
    """Returns whether the process of a running trial has ended; of another machine's that is not known."""
    process = trial.user_attrs.get(_PROCESS)
    if process is None:
        began = trial.datetime_start
        return began is not None and time.time() - began.timestamp() > _BEGINNING
    host, pid, start = str(process).split(" ", 2)
    if host != socket.gethostname():
        return False
    if Path("/proc/self/stat").exists():
        return _read_start(int(pid)) != start
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
