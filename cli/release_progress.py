"""What a release that is under way waits for, in a line."""

from typing import Any

NO_CONTROLLER = "No controller runs (python -m releases), so nothing moves by itself."


def waits_for(release: Any) -> str:
    if not release["controlled"]:
        return f"  {NO_CONTROLLER}"
    if release["figures"] is not None:
        return counted(release)
    if release["state"] == "evaluated":
        return "  waits until an engine has loaded the candidate"
    evaluation = release["evaluation"]
    if evaluation is None:
        return "  waits for its evaluation to begin"
    return f"  its evaluation is {evaluation['status']}: {evaluation['message'] or 'it told nothing yet.'}"


def counted(release: Any) -> str:
    """Requests of the stage, the candidate's beside those that it takes at least."""
    policy = release["policy"]
    stage = policy["shadow"] if release["state"] == "shadow" else policy["canary"][release["stage"]]
    least = {"stable": "", "candidate": f" of {stage['min_requests']}"}
    arms = (
        f"{arm} {figures['requests']}{least[arm]} ({figures['errors']} errors)"
        for arm, figures in release["figures"].items()
    )
    return f"  requests: {', '.join(arms)}"
