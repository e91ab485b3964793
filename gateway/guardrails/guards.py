"""A key's policy, ready to work."""

import hashlib
from collections import Counter

from contracts.guardrails import GuardrailPolicy, PersonalDataRule, Stage
from contracts.guardrails.answer_schema import AnswerSchema
from contracts.guardrails.topics import TopicFinder
from contracts.keys import ApiKey
from contracts.personal_data import Kind
from contracts.text_classifiers import TextClassifiers
from gateway.cache.bounded import BoundedMap

MOST_POLICIES = 1024


class Guards:
    """Compiled once for a policy. What is None has nothing to do."""

    def __init__(self, policy: GuardrailPolicy, classifiers: TextClassifiers) -> None:
        self._classifiers = classifiers
        self.policy = policy
        self.digest = hashlib.sha256(policy.model_dump_json().encode()).hexdigest()
        """Tells answers that this policy has gone over from all others."""
        self.masked_input, self.masked_output = (self._kinds(policy, stage) for stage in ("input", "output"))
        self.input_topics, self.output_topics = (self._topics(policy, stage) for stage in ("input", "output"))
        self.schema = None if policy.output_schema is None else AnswerSchema(policy.output_schema)

    @property
    def reads_input(self) -> bool:
        return bool(self.masked_input or self.input_topics or self.judges_input)

    @property
    def judges_input(self) -> bool:
        return self.policy.injection is not None or self.policy.moderates("input")

    @property
    def reads_output(self) -> bool:
        return bool(self.masked_output or self.output_topics or self.judges_output or self.schema)

    @property
    def judges_output(self) -> bool:
        return self.policy.moderates("output")

    def injection(self, text: str) -> float:
        """From 0 to 1. About a millisecond for 1,000 letters, as `harmful`."""
        return self._classifiers.injection(text)

    def harmful(self, text: str) -> str | None:
        """The category of the policy that holds most, if one does."""
        rule = self.policy.moderation
        assert rule is not None
        scores = self._classifiers.moderation(text)
        worst = max(rule.categories, key=scores.__getitem__)
        return worst if scores[worst] >= rule.threshold else None

    @staticmethod
    def _kinds(policy: GuardrailPolicy, stage: Stage) -> frozenset[Kind] | None:
        rule: PersonalDataRule | None = policy.personal_data
        return frozenset(rule.kinds) if rule is not None and policy.masks(stage) else None

    @staticmethod
    def _topics(policy: GuardrailPolicy, stage: Stage) -> TopicFinder | None:
        topics = policy.topics_on(stage)
        return TopicFinder(topics) if topics else None


class GuardBook:
    """The guards of keys that have a policy. Compiling takes a millisecond, and is done again where it changed."""

    def __init__(self, classifiers: TextClassifiers) -> None:
        self._classifiers = classifiers
        self._known: BoundedMap[str, Guards] = BoundedMap(MOST_POLICIES)

    def of(self, key: ApiKey, policy: GuardrailPolicy) -> Guards:
        known = self._known.get(key.id)
        if known is None or (known.policy is not policy and known.policy != policy):
            known = self._known[key.id] = Guards(policy, self._classifiers)
        return known


def describe(counts: Counter[Kind]) -> str:
    """`email 2, phone 1`."""
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
