"""Writes the image's bill of materials, CycloneDX in JSON: `sbom.py PACKAGES DEBIAN…`.

PACKAGES: the bill of the Python packages, which is completed in place. DEBIAN: files with the fields of a
package each.
"""

import json
import sys
from email import message_from_string
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL


def of_debian(fields: str) -> Component:
    """Return the component of a package with these fields."""
    package = message_from_string(fields)
    name, version = package["Package"], package["Version"]
    purl = PackageURL("deb", "debian", name, version, {"arch": package["Architecture"]})
    return Component(name=name, version=version, type=ComponentType.LIBRARY, purl=purl)


if __name__ == "__main__":
    bill, *packages = map(Path, sys.argv[1:])
    bom = Bom.from_json(json.loads(bill.read_text()))  # type: ignore[attr-defined]
    bom.components.update(of_debian(package.read_text()) for package in packages)
    JsonV1Dot6(bom).output_to_file(str(bill), allow_overwrite=True)
