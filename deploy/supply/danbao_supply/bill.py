"""What is in a deployable, and in the lock, as CycloneDX bills of materials: the same inputs make the same bytes."""

from __future__ import annotations

import uuid
from collections.abc import Container, Iterable, Mapping
from datetime import UTC, datetime

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from danbao_supply.closure import Part, is_ours
from danbao_supply.licences import Policy, spdx_of
from danbao_supply.lock import Pin

# What of the gateway's own closure is rendered into its image; the rest of it renders.
RENDERED = frozenset({"danbao-gateway", "danbao-protos", "googleapis-common-protos", "swagger-ui-bundle"})
ENVOY = "envoyproxy/envoy"
WORKSPACE = "danbao"


def bill(deployable: str, parts: Mapping[str, Part], base: str, policy: Policy, made: datetime | None) -> str:
    """The bill as JSON of CycloneDX 1.6.

    `parts` is the deployable's closure, `base` the image that its last stage begins with; `made` is the time that the
    bill carries, None for the beginning of 1970. A part's hashes are those of all its archives that the lock permits,
    the source's too. What the base image brings besides is not listed: scan the image that was built.
    """
    name = f"danbao-{deployable}"
    components = {part.name: _component(part, policy, ships=ships(deployable, part.name)) for part in parts.values()}
    root, image = components[name], _base(base)
    root.type = ComponentType.APPLICATION
    bom = Bom()
    bom.metadata.component = root
    bom.components.update([*(each for each in components.values() if each is not root), image])
    for part in parts.values():
        bom.register_dependency(components[part.name], [components[each] for each in part.needs])
    bom.register_dependency(root, [image])
    return _written(bom, made)


def bill_of_lock(
    pins: Iterable[Pin], version: str, shipped: Container[str], policy: Policy, made: datetime | None
) -> str:
    """The bill of all that the lock permits, on whatever machine: what ships, and what builds and checks it.

    `version` is the workspace's; what is not `shipped`, by name, has the scope that says so.
    """
    root = Component(type=ComponentType.APPLICATION, name=WORKSPACE, version=version, bom_ref=WORKSPACE)
    parts = [Part(pin.name, pin.version, pin, ()) for pin in pins]
    bom = Bom()
    bom.metadata.component = root
    bom.components.update(_component(part, policy, ships=part.name in shipped) for part in parts)
    bom.register_dependency(root, bom.components)
    return _written(bom, made)


def licences_of(deployable: str, parts: Mapping[str, Part], policy: Policy) -> str:
    """The licences of all that is not ours in what an image adds to its base, as one SPDX expression: its label's."""
    there = [each for each in parts.values() if each.pin and ships(deployable, each.name)]
    found = {licence for part in there if (licence := spdx_of(part.name, policy))}
    return " AND ".join(f"({each})" if " " in each else each for each in sorted(found))


def ships(deployable: str, name: str) -> bool:
    """Whether a distribution of a deployable's closure is in its image, and does not only render what is."""
    return deployable != "gateway" or name in RENDERED


def _written(bom: Bom, made: datetime | None) -> str:
    bom.metadata.timestamp = made or datetime.fromtimestamp(0, UTC)
    # The serial number names the content: it changes when anything else does.
    bom.serial_number = uuid.UUID(int=0)
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_OID, JsonV1Dot6(bom).output_as_string())
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _component(part: Part, policy: Policy, *, ships: bool) -> Component:
    licence = None if is_ours(part.name) else spdx_of(part.name, policy)
    return Component(
        type=ComponentType.LIBRARY,
        name=part.name,
        version=part.version,
        bom_ref=f"{part.name}@{part.version}",
        purl=None if is_ours(part.name) else PackageURL("pypi", name=part.name, version=part.version),
        scope=ComponentScope.REQUIRED if ships else ComponentScope.EXCLUDED,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in (part.pin.sha256 if part.pin else ())],
        licenses=[LicenseExpression(value=licence)] if licence else [],
    )


def _base(image: str) -> Component:
    tagged, _, digest = image.partition("@")
    name, _, tag = tagged.rpartition(":") if ":" in tagged.rpartition("/")[2] else (tagged, "", "")
    namespace, _, short = name.rpartition("/")
    sha256 = digest.removeprefix("sha256:")
    return Component(
        type=ComponentType.CONTAINER,
        name=name,
        version=tag or digest,
        bom_ref=image,
        purl=PackageURL(
            "docker",
            namespace=namespace or None,
            name=short,
            version=digest or tag,
            qualifiers={"tag": tag} if digest and tag else None,
        ),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if digest else [],
        licenses=[LicenseExpression(value="Apache-2.0")] if name == ENVOY else [],
    )
