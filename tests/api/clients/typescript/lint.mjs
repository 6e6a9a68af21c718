// Checks a description with the recommended rules of Redocly. A warning does not fail the run.
import { createConfig, lint } from "@redocly/openapi-core";

const config = await createConfig({ extends: ["recommended"] });
const problems = await lint({ ref: process.argv[2], config });
for (const problem of problems) {
  const places = problem.location.map((place) => place.pointer).join(", ");
  console.log(`${problem.severity}: ${problem.ruleId}: ${problem.message} ${places}`);
}
process.exitCode = problems.some((problem) => problem.severity === "error") ? 1 : 0;
