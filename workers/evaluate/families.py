"""The job families of evaluation. What a family needs is imported when it runs."""

from contracts.bias import BIAS_FAMILY, BiasSpec
from contracts.evals import RUN_FAMILY, EvalRunSpec
from contracts.harness import ENCODER_FAMILY, HARNESS_FAMILY, EncoderSpec, HarnessSpec
from contracts.releases import EVALUATION_FAMILY, EvaluationSpec
from workers.registry import job_family
from workers.run import JobResult, JobRun


@job_family(EVALUATION_FAMILY)
def evaluate_release(spec: EvaluationSpec, run: JobRun) -> JobResult:
    from workers.evaluate.release import evaluate

    return evaluate(spec, run)


@job_family(RUN_FAMILY)
def evaluate_run(spec: EvalRunSpec, run: JobRun) -> JobResult:
    from workers.evaluate.run import evaluate

    return evaluate(spec, run)


@job_family(BIAS_FAMILY)
def report_bias(spec: BiasSpec, run: JobRun) -> JobResult:
    from workers.evaluate.bias.report import measure_bias

    return measure_bias(spec, run)


@job_family(HARNESS_FAMILY)
def evaluate_harness(spec: HarnessSpec, run: JobRun) -> JobResult:
    from workers.evaluate.harness import evaluate

    return evaluate(spec, run)


@job_family(ENCODER_FAMILY)
def evaluate_encoder(spec: EncoderSpec, run: JobRun) -> JobResult:
    from workers.evaluate.encoder import evaluate

    return evaluate(spec, run)


EVALUATION = (evaluate_release, evaluate_run, report_bias, evaluate_harness, evaluate_encoder)
