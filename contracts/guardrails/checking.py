"""Whether a policy can be enforced: what pydantic cannot see."""

from contracts.guardrails.answer_schema import AnswerSchema, BadSchema
from contracts.guardrails.policy import GuardrailPolicy, Topic
from contracts.guardrails.topics import BadPattern, TopicFinder


class BadPolicy(ValueError):
    """`field` is the one that is wrong."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


def check_policy(policy: GuardrailPolicy) -> None:
    """To be called before a policy is stored. Raises BadPolicy."""
    for at, topic in enumerate(policy.topics):
        for number, pattern in enumerate(topic.patterns):
            _check_topic(Topic(name=topic.name, patterns=[pattern]), field=f"topics[{at}].patterns[{number}]")
    if policy.topics:
        _check_topic(*policy.topics, field="topics")
    if policy.output_schema is None:
        return
    try:
        AnswerSchema(policy.output_schema)
    except BadSchema as error:
        raise BadPolicy(f"`output_schema` is not usable: {error}.", field="output_schema") from None
    if policy.output_schema.get("type") != "object":
        raise BadPolicy('`output_schema` must be of `"type": "object"`.', field="output_schema.type")


def _check_topic(*topics: Topic, field: str) -> None:
    try:
        TopicFinder(topics)
    except BadPattern as error:
        raise BadPolicy(f"`{field}` is not usable by RE2: {error}.", field=field) from None
