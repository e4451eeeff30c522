"""What fails a test of the page, seen to be noticed: none of it is on the page itself."""

import pytest

ORIGIN = "http://page.invalid"
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; img-src data:;"
    " require-trusted-types-for 'script'"
)
WRONG = {
    "exception": ("throw new Error('lost')", "exception: "),
    "rejection": ("Promise.reject(new Error('lost'))", "exception: "),
    "console": ("console.error('lost')", "console: lost"),
    "markup": ("document.body.innerHTML = '<b>bold</b>'", "console: "),
    "policy": ("new Image().src = '/picture.svg'", "console: "),
    "style": ("document.body.setAttribute('style', 'color: red')", "console: "),
    "elsewhere": ("location.href = 'http://other.invalid/'", "another origin: GET "),
    "dialog": ("setTimeout(() => alert('hello'))", "dialog: hello"),
}


def shown(watched, script):
    watched.context.route(
        f"{ORIGIN}/",
        lambda route: route.fulfill(
            content_type="text/html",
            headers={"content-security-policy": POLICY},
            body=f"<!doctype html><link rel=icon href=data:,><body><script>{script}</script>",
        ),
    )
    page = watched.context.new_page()
    page.goto(f"{ORIGIN}/")
    page.wait_for_timeout(100)


@pytest.mark.parametrize("what", WRONG)
def test_it_is_noticed_unless_it_was_expected(contexts, what):
    script, told = WRONG[what]
    watched = contexts(ORIGIN)
    shown(watched, script)
    assert [each for each in watched.found() if each.startswith(told)]
    watched.expect("")
    assert not watched.found()


def test_a_page_that_does_nothing_wrong_is_let_through(contexts):
    watched = contexts(ORIGIN)
    shown(watched, "document.body.textContent = '<b>bold</b>'")
    assert not watched.found()
