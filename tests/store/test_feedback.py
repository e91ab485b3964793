import time

from contracts.captures import Feedback, Rating
from contracts.identifiers import new_id
from store.database import Database
from store.feedback import FeedbackRepository, Ratings
from store.tables import FeedbackTagRow


def feedback(response_id: str, rating: Rating | None, **fields: object) -> Feedback:
    defaults = {"tenant": "acme", "key": "key_1", "model": "m", "created_at": int(time.time())}
    given = {"id": new_id("feedback"), "response_id": response_id, "rating": rating, **defaults, **fields}
    return Feedback.model_validate(given)


def test_ratings_count_a_models_answers_since_a_time(database: Database) -> None:
    kept = FeedbackRepository(database)
    kept.put(feedback("a", "up"))
    kept.put(feedback("b", "up", tenant="other"))
    kept.put(feedback("c", "down"))
    kept.put(feedback("d", None, correction="better"))
    kept.put(feedback("e", "up", created_at=100))
    kept.put(feedback("f", "down", model="another"))

    assert kept.ratings_of("m", since=101) == Ratings(up=2, down=1)
    assert kept.ratings_of("m", since=100) == Ratings(up=3, down=1)
    assert kept.ratings_of("unknown", since=0) == Ratings(0, 0)


def test_the_last_word_on_an_answer_counts_and_its_id_stays(database: Database) -> None:
    kept = FeedbackRepository(database)
    first = kept.put(feedback("a", "up", tags=["tone", "fact"]))
    second = kept.put(feedback("a", "down", tags=["fact"]))

    assert second.id == first.id
    assert kept.ratings_of("m", since=0) == Ratings(up=0, down=1)
    with database.session() as session:
        assert [row.tag for row in session.query(FeedbackTagRow)] == ["fact"]


def test_tenants_rate_answers_of_the_same_id_apart(database: Database) -> None:
    kept = FeedbackRepository(database)
    kept.put(feedback("a", "up"))
    kept.put(feedback("a", "down", tenant="other"))
    assert kept.ratings_of("m", since=0) == Ratings(up=1, down=1)
