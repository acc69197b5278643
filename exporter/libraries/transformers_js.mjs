// Scores pairs with transformers.js from a local folder, one by one. The job comes on stdin, as JSON: `modules` is a
// folder with node_modules in it, `folder` the published folder, `dtype` which of its files, `pairs` the texts,
// `result` where the scores go.
import { createRequire } from "node:module";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";

const job = JSON.parse(readFileSync(0, "utf8"));
const require = createRequire(path.join(job.modules, "package.json"));
const { AutoModelForSequenceClassification, AutoTokenizer, env } = require("@huggingface/transformers");

env.allowRemoteModels = false;
env.localModelPath = path.dirname(job.folder);
const name = path.basename(job.folder);
const tokenizer = await AutoTokenizer.from_pretrained(name);
const options = { dtype: job.dtype, device: "cpu" };
const model = await AutoModelForSequenceClassification.from_pretrained(name, options);
const scores = [];
for (const [query, passage] of job.pairs) {
  const inputs = tokenizer(query, { text_pair: passage, padding: true, truncation: true });
  const { logits } = await model(inputs);
  scores.push(logits.data[0]);
}
writeFileSync(job.result, JSON.stringify(scores));
