"""The command line: `render` writes Envoy's configuration, `validate` asks Envoy about it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from danbao_gateway import envoy
from danbao_gateway.bootstrap import render
from danbao_gateway.settings import GatewaySettings


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; 0, or 1 with one clear sentence on standard error."""
    options = _parser().parse_args(arguments)
    try:
        bootstrap = render(GatewaySettings.from_yaml(options.settings))
        if options.command == "render":
            envoy.write(bootstrap, options.out)
        else:
            envoy.validate(bootstrap)
            print("Envoy accepts this configuration")
    except ValidationError as refusal:
        # Not str(refusal): that repeats the values.
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in refusal.errors())
        return _fail(f"{options.settings} is refused: {faults}")
    except (OSError, ValueError, KeyError, envoy.EnvoyMissing) as failure:
        return _fail(f"{type(failure).__name__}: {failure}")
    except envoy.ConfigurationRefused as refusal:
        return _fail(f"Envoy refuses the configuration: {refusal.reason}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="danbao_gateway", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    rendering = commands.add_parser("render", help="write Envoy's configuration")
    rendering.add_argument("--settings", type=Path, required=True, help="the settings file (YAML)")
    rendering.add_argument("--out", type=Path, required=True, help="the configuration to write (JSON)")
    validation = commands.add_parser("validate", help="ask Envoy whether it accepts the configuration")
    validation.add_argument("--settings", type=Path, required=True, help="the settings file (YAML)")
    return parser


def _fail(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
