"""axe-core, which finds problems of accessibility in a page of Chromium."""

from importlib import resources

from tests.support.requirements import skip_or_fail

#: What each page has to meet: https://github.com/dequelabs/axe-core/blob/develop/doc/API.md#axe-core-tags
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def find_violations(page, include="body", disabled=()):
    """Return the problems of the part of a page that a CSS selector names, one text for each element."""
    try:
        script = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
    except ModuleNotFoundError:
        skip_or_fail("axe-playwright-python is not installed (pip install -r requirements-dev.txt).")
    page.evaluate(script)  # a policy of the page does not apply to it
    found = page.evaluate(
        """async ([include, tags, disabled]) => {
            const rules = Object.fromEntries(disabled.map((id) => [id, { enabled: false }]));
            // The preload reads style sheets by an inline one, which the policy of the page refuses.
            const options = { runOnly: tags, rules, resultTypes: ["violations"], preload: false };
            // What fades in has no contrast yet.
            const isFinite = ({ effect }) => effect.getComputedTiming().endTime < Infinity;
            const animations = document.getAnimations().filter(isFinite);
            await Promise.allSettled(animations.map((animation) => animation.finished));
            return (await axe.run({ include: [include] }, options)).violations;
        }""",
        [include, TAGS, list(disabled)],
    )
    return [
        f"{violation['id']}: {node['html'][:200]}\n    {node['failureSummary']}"
        for violation in found
        for node in violation["nodes"]
    ]
