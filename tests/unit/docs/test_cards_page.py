# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reference of cards says what the catalogue is."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.kvm.passthrough.tests.docs import cards

PAGE = Path(__file__).parents[3] / "docs/docsite/rst/reference_cards.rst"


def test_the_page_is_what_the_catalogue_says() -> None:
    assert PAGE.read_text("utf-8") == cards.page(), "run make docs"
