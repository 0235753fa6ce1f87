"""Compiles the contracts into Python stubs and one descriptor set when the wheel is built; none of it is committed."""

from __future__ import annotations

import importlib.resources
import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StubBuilder(BuildHookInterface):
    """Runs protoc over every contract into `gen/`, which the wheel then carries."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        from grpc_tools import protoc

        root = Path(self.root)
        out = root / "gen"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        contracts = sorted(str(path.relative_to(root)) for path in (root / "danbao").rglob("*.proto"))
        well_known = importlib.resources.files("grpc_tools") / "_proto"
        import google.rpc

        google_apis = Path(next(iter(google.rpc.__path__))).parent.parent
        arguments = [
            "protoc",
            f"--proto_path={root}",
            f"--proto_path={root / 'third_party'}",
            f"--proto_path={well_known}",
            f"--proto_path={google_apis}",
            f"--python_out={out}",
            f"--pyi_out={out}",
            f"--grpc_python_out={out}",
            f"--descriptor_set_out={out / 'danbao' / 'descriptors.binpb'}",
            "--include_imports",
            "--include_source_info",
            *contracts,
            "buf/validate/validate.proto",
            "google/rpc/error_details.proto",
        ]
        (out / "danbao").mkdir()
        # The stubs of google.* come from googleapis-common-protos; only the descriptor set needs that file.
        if protoc.main([item for item in arguments if not item.startswith("google/rpc")]) != 0:
            raise RuntimeError("protoc refused the contracts; its message stands above")
        stubs = ("--python_out", "--pyi_out", "--grpc_python_out")
        descriptors_only = [item for item in arguments if not item.startswith(stubs)]
        if protoc.main(descriptors_only) != 0:
            raise RuntimeError("protoc could not write the descriptor set; its message stands above")
