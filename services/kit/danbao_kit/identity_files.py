"""What does a service show, and whom does it trust? Three files, read again when they were replaced.

Whoever runs the service replaces them whenever it likes; no restart, no signal. Certificate and key are two files, so
for a moment they may not belong together: then, or when a file cannot be read, what was read before stays, and the log
says so once.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from danbao_kit.log import log

# Between two looks of somebody who asks at every call.
_LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Identity:
    """PEM: the certificate chain, its private key, and the authorities whose certificates peers must show."""

    chain: bytes
    key: bytes = field(repr=False)
    authorities: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, as `openssl x509 -fingerprint -sha256` shows it."""
        end = "-----END CERTIFICATE-----"
        first = self.chain.decode("ascii").partition(end)[0] + end
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(first[first.index("-----BEGIN") :])).hexdigest().upper()
        return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


class IdentityFiles:
    """The files of one service. May be asked from any thread."""

    def __init__(self, *, cert: Path, key: Path, ca: Path) -> None:
        """Raises OSError or ssl.SSLError when the files cannot be read or do not belong together."""
        self._cert, self._key, self._ca = cert, key, ca
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._current = self._read()
        self._told = ""
        self._next_look = time.monotonic() + _LOOK_EVERY_S

    @classmethod
    def of(cls, cert: Path | None, key: Path | None, ca: Path | None) -> IdentityFiles:
        """Raises ValueError when one is not set, else as the constructor does."""
        if cert is None or key is None or ca is None:
            raise ValueError("services speak mutual TLS only: TLS_CERT, TLS_KEY and TLS_CA must be set")
        return cls(cert=cert, key=key, ca=ca)

    def lately(self) -> Identity:
        """What the files held a second ago, or now: cheap enough for every call."""
        return self._current if time.monotonic() < self._next_look else self.now()

    def now(self) -> Identity:
        """What the files hold; the same object until they are replaced."""
        with self._lock:
            self._next_look = time.monotonic() + _LOOK_EVERY_S
            try:
                stamp = self._stamp()
                if stamp != self._seen:
                    read = self._read()
                    self._seen = stamp
                    if read != self._current:
                        self._current = read
                        log.info("certificate_taken", fingerprint=read.fingerprint)
            except (OSError, ValueError) as error:
                # ssl.SSLError is an OSError. Looked at again next time: it may be half of a replacement.
                self._tell(error)
            else:
                self._told = ""
            return self._current

    def _tell(self, error: Exception) -> None:
        if str(error) != self._told:
            self._told = str(error)
            log.warning("certificate_not_taken", detail=self._told, certificate=str(self._cert))

    def _stamp(self) -> tuple[tuple[int, ...], ...]:
        """Changes when a file is written, or another takes its place."""
        found = (os.stat(path) for path in (self._cert, self._key, self._ca))
        return tuple((each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for each in found)

    def _read(self) -> Identity:
        before = self._contents()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # The password: none is asked for at a terminal.
        context.load_cert_chain(self._cert, self._key, password="")
        context.load_verify_locations(self._ca)
        if self._contents() != before:
            raise OSError("the files are being replaced")
        return before

    def _contents(self) -> Identity:
        return Identity(self._cert.read_bytes(), self._key.read_bytes(), self._ca.read_bytes())
