from contracts.jobs import LoraHyperparameters
from workers.finetune.hyperparameters import LEARNING_RATE, plan_training

AUTO = LoraHyperparameters()


def test_a_small_file_is_seen_often_and_a_large_one_once() -> None:
    assert plan_training(AUTO, examples=10).epochs > plan_training(AUTO, examples=60).epochs > 1
    assert plan_training(AUTO, examples=100_000).epochs == 1


def test_the_example_set_trains_in_steps_that_two_cores_do_in_two_minutes() -> None:
    plan = plan_training(AUTO, examples=60)
    assert plan.total_steps * plan.batch_size <= 200


def test_what_is_asked_for_is_taken() -> None:
    wanted = LoraHyperparameters(n_epochs=2, batch_size=8, learning_rate_multiplier=0.5, lora_rank=4)
    plan = plan_training(wanted, examples=20)
    assert (plan.epochs, plan.batch_size, plan.rank, plan.total_steps) == (2, 8, 4, 6)
    assert plan.learning_rate == LEARNING_RATE * 0.5
