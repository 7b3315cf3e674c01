"""What Hydra finds by itself: the sweeper and the launchers of slotreel; the work is elsewhere.

Nothing heavy is imported here, because Hydra imports this for every command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_submitit_launcher import submitit_launcher
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from omegaconf import DictConfig, open_dict


class Sweep(BasicSweeper):
    """Hydra's product of all values, with names that stay and a judgement before any start.

    Args:
        params: swept values of a ``sweep=`` file; what is typed replaces them.
    """

    def __init__(self, params: dict[str, str] | None = None) -> None:
        super().__init__(max_batch_size=None, params=params)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Name the sweep before the launcher is made, whose folders depend on it."""
        from slotreel.sweeps.names import sweep_name

        self.hydra_context = hydra_context
        overrides = self._overrides(list(config.hydra.overrides.task))
        swept = [o.key_or_group for o in overrides if o.is_sweep_override()]
        with open_dict(config):
            config.sweep_name = sweep_name(
                [o.input_line for o in overrides], swept, config.hydra.runtime.choices.sweep
            )
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Compose, tell, judge, launch."""
        from slotreel.sweeps.run import sweep

        config, launcher, context = self.config, self.launcher, self.hydra_context
        assert config is not None
        assert launcher is not None
        assert context is not None
        (rows,) = self.split_arguments(self._overrides(arguments), None)

        def compose(overrides: Sequence[str]) -> DictConfig:
            return context.config_loader.load_sweep_config(config, list(overrides))

        return sweep(rows, compose, config, lambda points: launcher.launch(points, 0))

    def _overrides(self, arguments: list[str]) -> list[Any]:
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return parser.parse_overrides([*self._parse_config(), *arguments])


class LocalLauncher(Launcher):
    """Points as processes of this machine, ``n_jobs`` at a time.

    Args:
        n_jobs: at a time; None = one per GPU, without GPUs one per two cores.
        snapshot: they run a copy of the code (read by ``Sweep``).
    """

    def __init__(self, n_jobs: int | None, snapshot: bool) -> None:
        self.n_jobs, self.snapshot = n_jobs, snapshot
        self.config: DictConfig | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep the configuration."""
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run all; raises if one failed."""
        from slotreel.sweeps.run import launch_here

        assert self.config is not None
        launch_here(self.config, job_overrides, self.n_jobs)
        return []


class SlurmLauncher(submitit_launcher.SlurmLauncher):
    """hydra-submitit-launcher's, which remembers jobs by point, may leave, and waits for all.

    Args:
        wait: stay until every job ended.
        snapshot: they run a copy of the code (read by ``Sweep``).
        params: of the launcher it extends.
    """

    def __init__(self, wait: bool, snapshot: bool, **params: Any) -> None:
        super().__init__(**params)
        self.wait, self.snapshot = wait, snapshot

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Submit all points as one job array."""
        from slotreel.sweeps.run import name_of, report, submitted

        assert self.config is not None
        folder = Path(self.config.hydra.sweep.dir)
        rows = [
            (list(row), "hydra.sweep.dir", initial_job_idx + i, name_of(row), Singleton.get_state())
            for i, row in enumerate(job_overrides)
        ]
        jobs = self._executor().map_array(self, *zip(*rows, strict=True))
        names = [row[3] for row in rows]
        submitted(
            folder, dict(zip(names, (job.job_id for job in jobs), strict=True)), wait=self.wait
        )
        if self.wait:
            ended = zip(names, jobs, strict=True)
            failed = {name: Path(job.paths.stdout) for name, job in ended if job.exception()}
            report(folder, failed, len(jobs))
        return []

    def _executor(self) -> Any:
        import submitit

        params = dict(self.params)
        executor = submitit.AutoExecutor(
            folder=params.pop("submitit_folder"),
            cluster="slurm",
            slurm_max_num_timeout=params.pop("max_num_timeout"),
        )
        shared = {field.name for field in fields(BaseQueueConf)}
        executor.update_parameters(
            **{key if key in shared else f"slurm_{key}": x for key, x in params.items()}
        )
        return executor
