// Checks a description with the recommended rules of Redocly. A warning fails the run as well, with one
// exception: the message of a callback is sealed, so no operation refers to it.
import { createConfig, lint } from "@redocly/openapi-core";

const config = await createConfig({ extends: ["recommended"] });
const isSealed = ({ ruleId, location }) =>
  ruleId === "no-unused-components" &&
  location.every((place) => place.pointer.startsWith("#/components/schemas/Callback"));
const found = await lint({ ref: process.argv[2], config });
const problems = found.filter((problem) => !isSealed(problem));
for (const problem of problems) {
  const places = problem.location.map((place) => place.pointer).join(", ");
  console.log(`${problem.severity}: ${problem.ruleId}: ${problem.message} ${places}`);
}
process.exitCode = problems.length > 0 ? 1 : 0;
