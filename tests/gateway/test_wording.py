"""Words tell apart what an embedding does not."""

import pytest

from gateway.cache.wording import may_share_an_answer


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I reset my password?", "how do i reset my password"),
        ("How do I reset my password?", "Hello, can you please tell me how I reset my passwords?"),
        ("What is a mutex?", "Explain what a mutex is."),
        ("Why can't the app open files?", "Why cannot the app open the file?"),
        ("How do I cancel my subscription?", "What steps do I take to end my subscription?"),
        ("Why 3 of 5?", "Why is it 3 of the 5?"),
    ],
)
def test_other_words_for_the_same(one: str, other: str):
    assert may_share_an_answer(one, other)
    assert may_share_an_answer(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 15 percent of 80?", "What is 25 percent of 80?"),
        ("Can two people share a ticket?", "May three people share a ticket?"),
        ("Is 7 more than 9?", "Is 9 more than 7?"),
        ("Which foods may dogs eat?", "Which foods may dogs not eat?"),
        ("Who can see my profile?", "Who can't see my profile?"),
        ("Wer darf das sehen?", "Wer darf das nicht sehen?"),
        ("How do I convert JSON to YAML?", "How do I convert YAML to JSON?"),
        ("What is the capital of France?", "What is the capital of Finland?"),
        ("Is it legal to record calls?", "Would it be illegal to record calls?"),
        ("How do I mount a drive?", "What is the command to unmount a drive?"),
        ("What is the dose per day?", "How high is the dose per week?"),
        ("Is the menu good?", "Was the menu good?"),
        ("What are the effects?", "What are the effects in children?"),
        ("Who can join the beta group?", "When can people join the beta?"),
        ("法国的首都是哪里?", "芬兰的首都是哪里?"),
        ("Why?", "Who?"),
    ],
)
def test_other_questions_in_nearly_the_same_words(one: str, other: str):
    assert not may_share_an_answer(one, other)
    assert not may_share_an_answer(other, one)
