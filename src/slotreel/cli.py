"""The command line of train, eval and predict: what happens around Hydra.

Standard library only at import, so that ``--help`` and ``--cfg job`` answer before torch is loaded.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from slotreel.errors import ConfigError, UserError, nearest

PATH_KEYS = (
    "resume", "init_from", "clone", "checkpoint", "results", "input", "output", "first_mask",
    "feature_cache", "hydra.run.dir",
)  # fmt: skip
PATH_PREFIXES = ("paths.",)
PATH_SUFFIXES = (".root", ".weights", ".path")
SETTINGS = ("trainer", "paths")  # groups that are no part with arguments of its own
_OVERRIDE = re.compile(
    r"^(?P<sigil>\+\+|\+|~)?(?P<key>[A-Za-z_][\w./@:-]*)(=(?P<value>.*))?$", re.S
)


def run_app(app: Callable[[], Any], conf: Path) -> None:
    """Run a Hydra application with arguments made safe and errors made readable.

    Args:
        app: function decorated with ``hydra.main``.
        conf: the application's configuration folder.
    """
    arguments = sys.argv[1:]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, not to Hydra's printer
    try:
        check_groups(arguments, conf)
        sys.argv[1:] = prepare(arguments)
        app()
    except UserError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if is_hydra(error):
            fail(explain(error, arguments, conf, Path(sys.argv[0]).stem))
        logging.getLogger(__name__).error("%s", traceback.format_exc())
        sys.exit(1)


def fail(message: str) -> None:
    """Print a message for the user and leave with exit code 1."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


def prepare(arguments: list[str]) -> list[str]:
    """Quote path values for Hydra; let a resumed run and torchrun's ranks find their directory."""
    out = [quote_path(argument) for argument in arguments]
    resume = next((a.partition("=")[2] for a in arguments if a.startswith("resume=")), "null")
    if resume not in ("null", ""):
        out.append(quote_path(f"hydra.run.dir={Path(resume).resolve()}"))
    elif int(os.environ.get("RANK", 0)) > 0 and "SLURM_PROCID" not in os.environ:
        out.append("hydra.run.dir=.")  # rank 0 tells this rank its directory
    return out


def quote_path(argument: str) -> str:
    """``key=value`` with the value quoted if the key takes a path: ``my video (1).mp4`` works."""
    match = _OVERRIDE.match(argument)
    if match is None or match["value"] is None or not _takes_path(match["key"]):
        return argument
    value = match["value"]
    if value in ("", "null") or value[0] in "'\"" or "${" in value:
        return argument
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{match['sigil'] or ''}{match['key']}='{escaped}'"


def _takes_path(key: str) -> bool:
    return key in PATH_KEYS or key.startswith(PATH_PREFIXES) or key.endswith(PATH_SUFFIXES)


# --- errors ----------------------------------------------------------------------------------


def _config_folders(arguments: list[str], conf: Path) -> list[Path]:
    """The application's configuration and the user's own (``--config-dir``)."""
    return [conf, *map(Path, config_dirs(arguments))]


def config_dirs(arguments: list[str]) -> list[str]:
    """Values of ``--config-dir``, as typed."""
    folders = []
    for i, argument in enumerate(arguments):
        if argument in ("--config-dir", "-cd") and i + 1 < len(arguments):
            folders.append(arguments[i + 1])
        elif argument.startswith("--config-dir="):
            folders.append(argument.partition("=")[2])
    return folders


def groups_of(folders: Iterable[Path]) -> dict[str, set[str]]:
    """Option names by group name, e.g. ``{"grouper": {"slot_attention", …}}``."""
    groups: dict[str, set[str]] = {}
    for folder in folders:
        for path in folder.rglob("*.yaml"):
            group = path.parent.relative_to(folder).as_posix()
            if group != ".":
                groups.setdefault(group, set()).add(path.stem)
    return groups


def check_groups(arguments: list[str], conf: Path) -> None:
    """Refuse unknown options of known groups, and unknown words, with the nearest names.

    Raises:
        ConfigError: with what to type instead.
    """
    groups = groups_of(_config_folders(arguments, conf))
    for argument in arguments:
        match = _OVERRIDE.match(argument)
        if argument.startswith("-") or match is None or match["value"] is None:
            continue
        key, value = match["key"].split("@")[0], match["value"]
        if key in groups and value == "null":
            raise ConfigError(
                f"{argument}: leave {key}= out, or name an option: {', '.join(sorted(groups[key]))}"
            )
        if key in groups and "(" not in value:
            for option in re.split(r"[\[\],\s]+", value.strip()):
                option = option.strip("'\"")
                known = groups[key]
                if option and option != "null" and option not in known and "$" not in option:
                    raise ConfigError(f"{key} has no option {option}; {nearest(option, known)}")
        elif match["sigil"] in ("+", "++"):
            _check_addition(argument, key, groups, conf)


def _check_addition(argument: str, key: str, groups: Iterable[str], conf: Path) -> None:
    """Refuse ``+key`` and ``++key`` that nothing reads; Hydra would store them without a word."""
    root, dot, rest = key.partition(".")
    known = {*groups, *_keys_in(conf.glob("*.yaml"))}
    if root not in known and not root.startswith("hydra/"):
        what = "key" if dot else "group"
        raise ConfigError(f"{argument}: there is no {what} {root}; {nearest(root, known)}")
    settings = {f"{root}.{name}" for name in _keys_in((conf / root).glob("default.yaml"))}
    if rest and root in SETTINGS and key not in settings:
        raise ConfigError(f"{argument}: there is no key {key}; {nearest(key, settings)}")


def _keys_in(paths: Iterable[Path]) -> set[str]:
    """Keys on the first level of YAML files, read without Hydra."""
    return {key for path in paths for key in re.findall(r"^(\w+):", path.read_text(), re.M)}


def is_hydra(error: BaseException) -> bool:
    """Whether Hydra or its parts raised this."""
    module = type(error).__module__
    return module.startswith(("hydra", "omegaconf", "antlr4"))


def explain(error: Exception, arguments: list[str], conf: Path, name: str) -> str:
    """Hydra's message about command ``name``, or for an unknown key the nearest ones."""
    match = re.search(r"Could not override '([^']+)'", str(error))
    if match is None:
        match = re.search(r"Could not (?:append|delete).*?'([^']+)'", str(error))
    if match is None:
        return str(error).strip()
    groups = groups_of(_config_folders(arguments, conf))
    if match[1] in groups:
        return f"{name} has no group {match[1]}; it is one of another command, see README.md"
    hint = nearest(match[1], {*known_keys(conf, name), *groups})
    shown = f" (./{name}.py --cfg job shows all)" if (conf.parent / f"{name}.py").exists() else ""
    return f"there is no key {match[1]}; {hint}{shown}"


def known_keys(conf: Path, name: str) -> list[str]:
    """Every dotted key of the default configuration."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import DictConfig

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
        cfg = compose(name)

    def walk(node: DictConfig, prefix: str) -> Iterable[str]:
        for key in map(str, node):
            value = node._get_node(key)
            yield f"{prefix}{key}"
            if isinstance(value, DictConfig) and not value._is_none():
                yield from walk(value, f"{prefix}{key}.")

    return list(walk(cfg, ""))
