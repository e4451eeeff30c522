"""Answers while they are written: moods that change, slow models, what ends too early."""

import pytest
from browser.hands import (
    PLAIN,
    STEERED,
    answer,
    button,
    drag,
    has,
    mood,
    on_screen,
    opened,
    place,
    point,
    runs,
    said,
    says,
    send,
    states,
    turn,
)
from browser.scripted import COMPARE, plain_words
from browser.waiting import waited
from playwright.sync_api import expect


def steered_side(compare):
    """Which of the two sides of a compare is the steered one; the other asks for nothing."""
    [plain] = [side for side, asked in enumerate(compare.body["emotions"]) if asked is None]
    return 1 - plain


def asked_place(asked):
    """The point of what a side asks for."""
    emotion = asked["emotion"]
    return emotion["valence"], emotion["arousal"]


def words(asked, first, end):
    return "".join(plain_words(0, step, asked) for step in range(first, end))


def test_a_change_holds_from_its_step_on_and_the_text_shows_it(watched, scripted):
    scripted.held = True
    page = opened(watched, scripted.url)
    place(page, 0.6, 0.4)
    send(page, "How are you?")
    compare = scripted.compare()
    steered = steered_side(compare)
    assert asked_place(compare.body["emotions"][steered]) == (0.6, 0.4)
    assert compare.body["messages"] == [{"role": "user", "content": "How are you?"}]
    compare.let(3)
    says(page, STEERED, words("glad", 0, 3))
    says(page, PLAIN, words(None, 0, 3))

    drag(page, -0.7, 0.5)
    valence, arousal = mood(page)
    assert (valence, arousal) == pytest.approx((-0.7, 0.5), abs=0.02)
    wanted = ((valence, arousal), True)  # the point has been let go
    told = lambda each: (asked_place(each["emotions"][steered]), each["again"])  # noqa: E731
    waited(lambda: compare.changes and told(compare.changes[-1]) == wanted, "the change")
    assert all(each["emotions"][1 - steered] is None for each in compare.changes)
    compare.let(4)
    says(page, STEERED, words("glad", 0, 3) + words("cross", 3, 7))
    says(page, PLAIN, words(None, 0, 7))
    compare.open()
    states(page, "ended")

    assert compare.changed_at == [3]
    assert said(page, STEERED) == compare.texts[steered]
    assert said(page, PLAIN) == compare.texts[1 - steered]
    page.wait_for_timeout(400)  # colours may fade in
    (before, warm), (after, cold) = runs(page, STEERED)
    assert (before, after) == (words("glad", 0, 3), words("cross", 3, 12))
    assert warm != cold
    [(whole, grey)] = runs(page, PLAIN)
    assert whole == compare.texts[1 - steered]
    assert grey not in (warm, cold)


def test_while_the_point_is_led_the_last_place_is_what_holds(watched, scripted):
    scripted.held = True
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    compare = scripted.compare()
    steered = steered_side(compare)
    compare.let(1)
    has(page, STEERED, "writing")
    drag(page, -0.2, -0.8, steps=60)
    waited(
        lambda: (
            [(asked_place(each["emotions"][steered]), each["again"]) for each in compare.changes][
                -1:
            ]
            == [(mood(page), True)]
        ),
        "the last place, under which the text is read again",
    )
    assert len(compare.changes) < 60  # of those that came while one was sent only the last
    assert compare.changes[0]["again"] is False  # which takes longer than to go on
    compare.open()
    states(page, "ended")
    assert compare.changed_at == [1]
    assert asked_place(compare.asked[steered]) == mood(page)


def test_only_a_mood_that_stays_is_named_whatever_the_model_reads_again(watched, scripted):
    """A model without a cache reads its text again for each mood that is passed through."""
    scripted.held = True
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    compare = scripted.compare()
    steered = steered_side(compare)
    compare.reads_all = True
    compare.let(1)
    has(page, STEERED, "writing")

    def is_cross():
        return compare.changes and asked_place(compare.changes[-1]["emotions"][steered])[0] < -0.6

    def pass_through():
        waited(is_cross, "the change")
        compare.let(2)
        waited(lambda: compare.changed_at, "the change holds")
        waited(lambda: "2" in said(page, STEERED), "its words")
        page.mouse.move(*on_screen(page, -0.7, -0.5))

    drag(page, -0.7, 0.5, meanwhile=pass_through)
    waited(lambda: compare.changes[-1]["again"], "the last place")
    compare.open()
    states(page, "ended")
    assert len(compare.changed_at) > 1
    assert "cross" in said(page, STEERED)
    expect(answer(page, STEERED).locator(".flag")).to_have_count(1)


def test_both_sides_have_the_same_of_all_but_the_mood(watched, scripted):
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    states(page, "ended")
    compare = scripted.compare()
    assert compare.body["emotions"].count(None) == 1
    assert {"seed", "temperature", "top_p", "max_tokens"} <= set(compare.body)


def test_a_slow_model_is_told_of_and_can_be_stopped_before_its_first_word(watched, scripted):
    scripted.held = True
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    compare = scripted.compare()
    states(page, "waiting")
    expect(answer(page, STEERED)).to_contain_text("waiting", timeout=6000)
    expect(button(page, "Stop")).to_be_enabled()
    button(page, "Stop").click()
    states(page, "stopped")
    waited(lambda: compare.left, "the page has hung up")
    assert said(page, STEERED) == said(page, PLAIN) == ""
    expect(answer(page, STEERED)).to_contain_text("stopped")
    expect(button(page, "Send")).to_be_visible()


def test_what_waits_for_its_place_can_be_stopped(watched, scripted):
    scripted.slow.add(COMPARE)
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    states(page, "waiting")
    button(page, "Stop").click()
    states(page, "stopped")
    scripted.slow.clear()
    send(page, "And now?")
    states(page, "ended")
    assert turn(page, 0).locator(".text").all_text_contents() == ["", ""]


def test_stop_keeps_what_was_said(watched, scripted):
    scripted.held = True
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    compare = scripted.compare()
    compare.let(4)
    says(page, PLAIN, words(None, 0, 4))
    point(page).press("Escape")
    states(page, "stopped")
    waited(lambda: compare.left, "the page has hung up")
    assert said(page, STEERED) == compare.texts[steered_side(compare)]
    # What is said aloud stands beside what was before it: that may not have been heard yet.
    expect(page.locator("#aloud p")).to_have_text(
        [said(page, STEERED).strip(), "The answers are not whole."]
    )


@pytest.mark.parametrize("how", ["cut", "tear"])
def test_a_stream_without_an_end_is_no_whole_answer(watched, scripted, how):
    watched.expect_refusals()
    scripted.held = True
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    compare = scripted.compare()
    compare.let(2)
    says(page, PLAIN, words(None, 0, 2))
    getattr(compare, how)()
    states(page, "failed")
    assert said(page, PLAIN) == words(None, 0, 2)
    expect(turn(page).get_by_role("alert").first).to_contain_text("server")
    expect(page.locator("#banner")).to_be_hidden()  # it answers
    scripted.held = False
    send(page, "Once more?")
    states(page, "ended")


def test_an_error_in_mid_stream_is_said_where_the_text_ends(watched, scripted):
    scripted.held = True
    page = opened(watched, scripted.url)
    send(page, "How are you?")
    compare = scripted.compare()
    compare.let(2)
    says(page, STEERED, words("glad", 0, 2))
    compare.fail("the batch fell off the table")
    states(page, "failed")
    assert said(page, STEERED) == words("glad", 0, 2)
    expect(turn(page).get_by_role("alert").first).to_have_text("The batch fell off the table.")


def test_two_tabs_go_their_own_ways(watched, scripted):
    scripted.held = True
    one, other = (opened(watched, scripted.url) for _ in range(2))
    place(one, 0.5, 0.5)
    place(other, -0.5, -0.5)
    send(one, "First?")
    first = scripted.compare(0)
    send(other, "Second?")
    second = scripted.compare(1)
    assert mood(one) == (0.5, 0.5)
    assert mood(other) == (-0.5, -0.5)
    assert asked_place(first.body["emotions"][steered_side(first)]) == (0.5, 0.5)
    assert asked_place(second.body["emotions"][steered_side(second)]) == (-0.5, -0.5)
    first.let(2)
    second.let(5)
    says(one, STEERED, words("glad", 0, 2))
    says(other, STEERED, words("low", 0, 5))
    place(one, -0.5, 0.5)
    waited(lambda: first.changes, "the change")
    assert not second.changes
    button(other, "Stop").click()
    states(other, "stopped")
    first.open()
    states(one, "ended")
    assert said(one, STEERED) == words("glad", 0, 2) + words("cross", 2, 12)
    assert said(other, STEERED) == words("low", 0, 5)


def test_what_was_said_goes_on_in_the_next_turn(watched, scripted):
    page = opened(watched, scripted.url)
    send(page, "One?")
    states(page, "ended")
    send(page, "Two?")
    expect(page.locator("article.turn")).to_have_count(2)
    states(page, "ended")
    assert page.locator("article.turn .said").all_text_contents() == ["One?", "Two?"]
    first, second = scripted.compare(0), scripted.compare(1)
    before = second.body["messages"]
    assert [each["role"] for each in before] == ["user", "assistant", "user"]
    assert before[0]["content"] == "One?"
    assert before[1]["content"] in first.texts
    assert before[2]["content"] == "Two?"
    button(page, "Again").click()
    states(page, "ended")
    assert scripted.compare(2).body["messages"][-1]["content"] == "Two?"


def test_the_talk_goes_on_from_the_answer_that_is_chosen(watched, scripted):
    page = opened(watched, scripted.url)
    send(page, "One?")
    states(page, "ended")
    page.get_by_role("radio", name="plain").check()
    send(page, "Two?")
    expect(page.locator("article.turn")).to_have_count(2)
    states(page, "ended")
    assert scripted.compare(1).body["messages"][1]["content"] == said(page, PLAIN, 0)


def test_a_new_talk_knows_nothing_of_the_old_one(watched, scripted):
    page = opened(watched, scripted.url)
    send(page, "One?")
    states(page, "ended")
    button(page, "New talk").click()
    expect(page.locator("article.turn")).to_have_count(0)
    expect(page.locator(".mark")).to_have_count(0)
    send(page, "Two?")
    states(page, "ended")
    assert [each["content"] for each in scripted.compare(1).body["messages"]] == ["Two?"]
