from contracts.fine_tuning import Hyperparameters
from workers.finetune.hyperparameters import FEWEST_EPOCHS, TrainingPlan, plan_training

AUTO = Hyperparameters()
RATE = 1e-3


def plan(wanted: Hyperparameters, *, examples: int) -> TrainingPlan:
    return plan_training(wanted, examples=examples, learning_rate=RATE)


def test_a_small_file_is_seen_often_and_a_large_one_once() -> None:
    assert plan(AUTO, examples=10).epochs > plan(AUTO, examples=60).epochs > 1
    assert plan(AUTO, examples=100_000).epochs == 1


def test_a_new_layer_is_learnt_in_several_epochs_however_large_the_file() -> None:
    fewest = FEWEST_EPOCHS["token_classification"]
    assert plan_training(AUTO, examples=10_000, learning_rate=RATE, fewest_epochs=fewest).epochs == fewest == 3
    assert plan_training(Hyperparameters(n_epochs=1), examples=20, learning_rate=RATE, fewest_epochs=3).epochs == 1


def test_the_example_set_trains_in_steps_that_two_cores_do_in_two_minutes() -> None:
    planned = plan(AUTO, examples=60)
    assert planned.total_steps * planned.batch_size <= 200


def test_what_is_asked_for_is_taken() -> None:
    wanted = Hyperparameters(n_epochs=2, batch_size=8, learning_rate_multiplier=0.5)
    planned = plan(wanted, examples=20)
    assert (planned.epochs, planned.batch_size, planned.total_steps) == (2, 8, 6)
    assert planned.learning_rate == RATE * 0.5
