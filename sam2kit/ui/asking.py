"""From a gesture to its answer: checks what a browser sent, takes the visitor's lock, and turns errors into sentences.

All three tabs ask through here. The functions are called past Gradio's queue, in threads of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from sam2kit.clicking.messages import PromptRequest, ShownObject, answer_message, refusal, stale
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.tab_parts import ERRORS, plain_words

Work = TypeVar("Work")
Act = Callable[[Work, PromptRequest], ShownObject]
_GONE = "Your work is open in another tab, or was put away to make room for others; reload this page to go on here."


def answer_request(sent: Any, store: SessionStore[Work], act: Act[Work]) -> dict[str, Any]:
    """Carry out a request on its visitor's work.

    Args:
        sent: what the browser sent.
        act: sets the prompts and returns the object as it is then; raises ValueError for people.
    """
    return _answer(sent, lambda request: store.newest(request.key, request.sequence), act)


def answer_preview(sent: Any, store: SessionStore[Work], act: Act[Work], *, busy: bool) -> dict[str, Any]:
    """The same for what only would be; left out while the network is busy, or the visitor's work is in use."""
    return _answer(sent, lambda request: nullcontext() if busy else store.if_free(request.key), act)


def _answer(
    sent: Any, entering: Callable[[PromptRequest], AbstractContextManager[Work | None]], act: Act[Work]
) -> dict[str, Any]:
    try:
        request = PromptRequest.read(sent)
        with entering(request) as work:
            if work is None:
                return stale()
            return answer_message(request, act(work, request))
    except KeyError:
        return refusal(_GONE)
    except ERRORS as error:
        return refusal(plain_words(error))
