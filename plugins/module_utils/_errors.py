# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one exception tree of the collection. A module's main() maps it to fail_json once."""

from __future__ import annotations


class PassthroughError(Exception):
    """Anything the collection refuses or could not do. The message names the value, the place and the remedy."""


class InvalidInput(PassthroughError):
    """What the user wrote cannot be meant. Raised before anything was changed."""


class Refused(PassthroughError):
    """The change would take something away that the host needs. Raised before anything was changed."""


class HostFailure(PassthroughError):
    """The host did not do what it was asked to: a command failed, a file was not writable, a driver did not bind."""
