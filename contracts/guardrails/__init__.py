"""What a key's requests and answers must keep to, and the parts that check it.

A policy is plain data and needs nothing but pydantic. Topics and schemas are compiled by RE2 and by `jsonschema-rs`,
which only the gateway and the command line have; the classifiers are those of contracts/text_classifiers.
"""

from contracts.guardrails.policy import GuardrailPolicy, InjectionRule, ModerationRule, PersonalDataRule, Stage, Topic

__all__ = ["GuardrailPolicy", "InjectionRule", "ModerationRule", "PersonalDataRule", "Stage", "Topic"]
