"""Owner directories: linked pages of up to 32 object ids, sorted within a page.

The root page knows the last page as its IndexPrevious and the first as its IndexNext; the last page's IndexNext is
absent or "0". A root page stays when it empties if the caller asks for it, as channels and tickets do.

Sources: rippled src/libxrpl/ledger/ApplyView.cpp dirAdd, dirRemove; View.cpp forEachItemAfter (2.3.0).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from typing import Final

from channeld.sandbox.ledger import keylets
from channeld.sandbox.ledger.results import Reject
from channeld.sandbox.ledger.state import Fields, Reader
from channeld.sandbox.ledger.view import TxView

PAGE_ENTRIES: Final = 32
MAX_PAGES: Final = 262_144


def link(fields: Fields, name: str) -> int:
    """A page's IndexNext or IndexPrevious as a number; absent means 0, the root."""
    return int(fields.get(name, "0"), 16)


def _peek(view: TxView, key: str) -> Fields:
    page = view.peek(key)
    if page is None:
        raise Reject("tefBAD_LEDGER")
    return page


def add(view: TxView, owner: str, key: str) -> str:
    """Insert an object's id into the owner's directory. Returns its page as OwnerNode holds it (lower-case hex).

    Raises tecDIR_FULL when there are no pages left.
    """
    root_key = keylets.owner_directory(owner)
    root = view.peek(root_key)
    if root is None:
        view.insert(root_key, _new_page(owner, root_key, key))
        return "0"
    number = link(root, "IndexPrevious")
    last = _peek(view, keylets.page(root_key, number))
    entries = sorted(last["Indexes"])
    if len(entries) < PAGE_ENTRIES:
        insort(entries, key)
        last["Indexes"] = entries
        return f"{number:x}"
    return _add_page(view, root, last, number + 1, key)


def _new_page(owner: str, root_key: str, key: str) -> Fields:
    return {"Flags": 0, "Indexes": [key], "LedgerEntryType": "DirectoryNode", "Owner": owner, "RootIndex": root_key}


def _add_page(view: TxView, root: Fields, last: Fields, number: int, key: str) -> str:
    if number >= MAX_PAGES:
        raise Reject("tecDIR_FULL")
    last["IndexNext"] = root["IndexPrevious"] = f"{number:x}"
    fields = _new_page(root["Owner"], root["RootIndex"], key)
    if number != 1:  # 0 is the default and left out
        fields["IndexPrevious"] = f"{number - 1:x}"
    view.insert(keylets.page(root["RootIndex"], number), fields)
    return f"{number:x}"


def remove(view: TxView, owner: str, page_hex: str, key: str, keep_root: bool) -> None:
    """Take an object's id out of its page; unlink the page when it empties."""
    root_key, number = keylets.owner_directory(owner), int(page_hex, 16)
    page_key = keylets.page(root_key, number)
    page = _peek(view, page_key)
    if key not in page["Indexes"]:
        raise Reject("tefBAD_LEDGER")
    page["Indexes"] = [entry for entry in page["Indexes"] if entry != key]
    if page["Indexes"]:
        return
    if number:
        _unlink(view, root_key, page_key, page, keep_root)
    elif not keep_root and not link(page, "IndexNext") and not link(page, "IndexPrevious"):
        view.erase(page_key)


def _unlink(view: TxView, root_key: str, page_key: str, page: Fields, keep_root: bool) -> None:
    before, after = link(page, "IndexPrevious"), link(page, "IndexNext")
    previous = _peek(view, keylets.page(root_key, before))
    previous["IndexNext"] = f"{after:x}"
    following = _peek(view, keylets.page(root_key, after))
    following["IndexPrevious"] = f"{before:x}"
    view.erase(page_key)
    if not keep_root and not before and not after and not previous["Indexes"]:
        view.erase(root_key)


def pages(reader: Reader, owner: str, start: int = 0) -> Iterator[tuple[int, list[str]]]:
    """The directory's pages in link order from page `start`: number and entries."""
    root_key = keylets.owner_directory(owner)
    number = start
    while (fields := reader.read(keylets.page(root_key, number))) is not None:
        yield number, fields["Indexes"]
        number = link(fields, "IndexNext")
        if number == 0:
            return


def entries_after(reader: Reader, owner: str, after: str | None, hint: int) -> Iterator[str]:
    """Object ids in directory order, those after `after` if given; `hint` names the page to look for it first.

    Raises LookupError at the end if `after` never turned up.
    """
    start = 0
    if after is not None:
        hinted = reader.read(keylets.page(keylets.owner_directory(owner), hint))
        start = hint if hinted is not None and after in hinted["Indexes"] else 0
    found = after is None
    for _, entries in pages(reader, owner, start):
        for key in entries:
            if found:
                yield key
            found = found or key == after
    if not found:
        raise LookupError("marker not in directory")


def is_empty(reader: Reader, owner: str) -> bool:
    """Whether nothing is in the directory."""
    return not any(entries for _, entries in pages(reader, owner))
