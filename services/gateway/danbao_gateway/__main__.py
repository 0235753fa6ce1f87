"""The command line: renders what Envoy reads, asks Envoy about it, and takes changes into one that runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from danbao_gateway import configmap, envoy
from danbao_gateway.bootstrap import render
from danbao_gateway.openapi import document
from danbao_gateway.reload import NotTaken, RestartNeeded, reload
from danbao_gateway.rendering import render_files, write
from danbao_gateway.settings import GatewaySettings
from danbao_gateway.settings_file import Unusable


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; 0, or 1 with one clear sentence on standard error."""
    options = _parser().parse_args(arguments)
    try:
        options.run(GatewaySettings.from_yaml(options.settings), options)
    except ValidationError as refusal:
        # Not str(refusal): that repeats the values.
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in refusal.errors())
        return _fail(f"{options.settings} is refused: {faults}")
    except (RestartNeeded, NotTaken, Unusable) as refusal:
        return _fail(str(refusal))
    except (OSError, ValueError, KeyError, envoy.EnvoyMissing) as failure:
        return _fail(f"{type(failure).__name__}: {failure}")
    except envoy.ConfigurationRefused as refusal:
        return _fail(f"Envoy refuses the configuration: {refusal.reason}")
    return 0


def _render(settings: GatewaySettings, options: argparse.Namespace) -> None:
    write(render_files(settings, str(options.at or options.out.absolute())), options.out)


def _validate(settings: GatewaySettings, options: argparse.Namespace) -> None:
    envoy.validate(render(settings))
    print("Envoy accepts this configuration")


def _reload(settings: GatewaySettings, options: argparse.Namespace) -> None:
    changed = reload(settings, options.out)
    print(f"changed: {', '.join(changed)}" if changed else "nothing to change")


def _config_map(settings: GatewaySettings, options: argparse.Namespace) -> None:
    rendering = render_files(settings, options.at, page_folder=options.page)
    resource = configmap.config_map(rendering, name=options.name, namespace=options.namespace)
    sys.stdout.write(configmap.as_yaml(resource))


def _openapi(settings: GatewaySettings, options: argparse.Namespace) -> None:
    json.dump(document(settings), sys.stdout, indent=2, ensure_ascii=False)
    print()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="danbao_gateway", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(
        name: str, run: Callable[[GatewaySettings, argparse.Namespace], None], text: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text)
        added.set_defaults(run=run)
        added.add_argument("--settings", type=Path, required=True, help="the settings file (YAML)")
        return added

    rendering = command("render", _render, "write everything that Envoy reads into a folder")
    rendering.add_argument("--out", type=Path, required=True, help="the folder; envoy.json in it is where Envoy starts")
    rendering.add_argument("--at", help="where Envoy will find the folder; left out: where it is written")
    command("validate", _validate, "ask Envoy whether it accepts the settings")
    reloading = command("reload", _reload, "take changed roles, limits, issuers and deadlines into a running Envoy")
    reloading.add_argument("--out", type=Path, required=True, help="the folder that render wrote")
    mapped = command("configmap", _config_map, "print the rendering as a Kubernetes ConfigMap")
    mapped.add_argument("--name", default="danbao-gateway")
    mapped.add_argument("--namespace")
    mapped.add_argument("--at", default=configmap.MOUNTED_AT, help="where it is mounted (%(default)s), not by subPath")
    mapped.add_argument("--page", default=configmap.PAGE_IN_IMAGE, help="the page's folder in the image (%(default)s)")
    command("openapi", _openapi, "print the JSON API as an OpenAPI document")
    return parser


def _fail(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
