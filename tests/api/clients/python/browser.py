"""A newcomer in a browser: opens the start page, follows the link to the documentation, and executes
every operation there with the values that the page has filled in.

Only two values come from this script: the API key, and the id of the session that the page created. The script
also makes the consumer of the operations that need one. A script in the page then follows the changes of all
sessions by a stream.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Locator, Page, Response, sync_playwright

URL = os.environ["MUSTER_URL"]
KEY = os.environ["MUSTER_API_KEY"]
CHROMIUM = os.environ["CHROMIUM"]
MANUAL = Path(os.environ["MANUAL"])
# In milliseconds.
PATIENCE = 30_000


def main() -> None:
    with sync_playwright() as playwright:
        # The sandbox of Chromium does not start as root. All pages come from the tested server.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        complaints: list[str] = []
        page.on("console", lambda message: complain(message, complaints))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        foreign: list[str] = []
        page.on("request", lambda request: None if is_own(request.url) else foreign.append(request.url))

        page.goto(f"{URL}/")
        assert page.locator("h1").inner_text().startswith("Muster "), page.content()
        for link in page.locator("a").all():
            answer = page.request.get(f"{URL}/{link.get_attribute('href')}")
            assert answer.status == 200, (answer.url, answer.status)
        page.get_by_role("link", name="REST API").click()
        page.wait_for_url("**/v1/docs")
        failures = try_out(page)
        follow(page)
        browser.close()
    if failures or complaints or foreign:
        sys.exit("\n".join([*failures, *complaints, *(f"request to {url}" for url in foreign)]))


# Runs the script of the manual, and makes changes until it has handled one.
FOLLOW = r"""
async (key) => {
    SCRIPT
    const count = () => JSON.parse(localStorage.getItem("handled") || "[]").length;
    const handle = (change) => {
        const handled = JSON.parse(localStorage.getItem("handled") || "[]");
        localStorage.setItem("handled", JSON.stringify([...handled, change]));
    };
    const before = count();
    follow(key, handle);
    while (count() === before) {
        await fetch("/v1/sessions", {
            method: "POST",
            headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
            body: JSON.stringify({ operator: "alice", title: "Streamed", member: ["alice", "bob", "carol"] }),
        });
        await new Promise((resolve) => setTimeout(resolve, 200));
    }
}
"""


def follow(page: Page) -> None:
    """Follows the changes with the script of the manual, and again after the page was loaded again."""
    manual = MANUAL.read_text()
    script = manual.split("\n```javascript\n")[1].split("\n```\n")[0]
    runs = 2
    for _ in range(runs):
        page.evaluate(FOLLOW.replace("SCRIPT", script), KEY)
        page.reload()
    changes = json.loads(page.evaluate("localStorage.getItem('handled')"))
    assert len(changes) >= runs and changes[0]["kind"] == "created", changes
    for before, after in zip(changes, changes[1:]):
        assert after["prevSeq"] == before["seq"], (before, after)
    print("/v1/events: a page followed the changes with the script of the manual, and resumed")


def complain(message: ConsoleMessage, complaints: list[str]) -> None:
    if message.type == "error":
        complaints.append(message.text)


def is_own(url: str) -> bool:
    return urlsplit(url).scheme == "data" or url.startswith(f"{URL}/")


def try_out(page: Page) -> list[str]:
    """Executes all operations in the order of the page. Returns the failures."""
    page.locator(".opblock").first.wait_for()
    page.locator(".auth-wrapper .authorize").click()
    page.locator(".auth-container input").fill(KEY)
    page.locator(".auth-container button.authorize").click()
    page.locator(".auth-container button.btn-done").click()

    document = page.request.get(f"{URL}/v1/openapi.json").json()
    described = {of["operationId"]: of for item in document["paths"].values() for of in item.values()}
    # Each of these operations needs the consumer, and one of them removes it.
    of_consumer = {
        of["operationId"] for path, item in document["paths"].items() if "{name}" in path for of in item.values()
    }
    session, failures, names = None, [], []
    for block in page.locator(".opblock-tag-section .opblock").all():
        name = (block.get_attribute("id") or "").rsplit("-", 1)[-1]
        names.append(name)
        block.locator(".opblock-summary-control").click()
        block.locator(".try-out__btn").click()
        if problem := paste(block, described[name], session):
            failures.append(f"{name}: {problem}")
            continue
        if name in of_consumer:
            page.request.put(
                f"{URL}/v1/consumers/mirror", headers={"Authorization": f"Bearer {KEY}"}, data={"start": "0"}
            )
        answer = execute(page, block)
        if not 200 <= answer.status < 300:
            failures.append(f"{name}: {answer.request.method} {answer.url}: {answer.status} {answer.text()}")
        elif name == "createSession":
            session = json.loads(answer.text())["sessionId"]
        block.locator(".opblock-summary-control").click()
    if not failures:
        assert sorted(names) == sorted(described), (names, described.keys())
        print(f"/v1/docs: {len(names)} operations were executed as filled in")
    return failures


def paste(block: Locator, operation: dict[str, Any], session: str | None) -> str | None:
    """Enters the session if the operation needs one. Returns the first other value that is wrong."""
    schemas = {parameter["name"]: parameter["schema"] for parameter in operation["parameters"]}
    for row in block.locator("tr[data-param-name]").all():
        name = row.get_attribute("data-param-name") or ""
        field = row.locator("input, select").first
        if name == "sessionId":
            if session is None:
                return "no session was created before"
            field.fill(session)
        elif row.locator(".parameter__name.required").count() == 1:
            if not field.input_value():
                return f"the required parameter {name} is empty"
        else:
            default = schemas[name].get("default", "")
            default = default if isinstance(default, str) else json.dumps(default)
            if field.input_value() != default:
                return f"the optional parameter {name} is filled in: {field.input_value()}"
    return None


def execute(page: Page, block: Locator) -> Response:
    with page.expect_response(lambda answer: urlsplit(answer.url).path.startswith("/v1/")) as answer:
        block.locator("button.execute").click()
    answer.value.finished()
    return answer.value


main()
