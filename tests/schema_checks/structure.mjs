// Checks the structure of what the bot sends by Slack's own published types: kinds, required and unknown keys.
// Lengths and counts are lengths.py's part. A manifest in YAML is Slack's; one in JSON is Teams', and checked by Microsoft's schema.
//
//   node structure.mjs [--self-test] [directory | file.jsonl | manifest.yaml | manifest.json]...
//
// A line of a .jsonl file is {"method": "chat.postMessage", "body": {…}}; the method is "response" for what goes to a
// `response_url` and "ack" for what is answered to a command or a click. Each refusal is printed with its path.
// Exits with 1 on any refusal, and when there was no payload to check.

import { readFileSync, readdirSync, statSync } from 'node:fs';
import { dirname, extname, join } from 'node:path';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import Ajv from 'ajv';
import AjvDraft04 from 'ajv-draft-04';
import { createGenerator } from 'ts-json-schema-generator';
import { parse as parseYaml } from 'yaml';

const here = dirname(fileURLToPath(import.meta.url));
const readJson = (name) => JSON.parse(readFileSync(join(here, name), 'utf8'));
const METHODS = readJson('methods.json');

// Where the branches of a union are told apart by `type`, say so: the validator then speaks of the branch that was
// meant, and not of the nineteen others.
function byType(node, definitions) {
  if (Array.isArray(node)) return node.map((child) => byType(child, definitions));
  if (node === null || typeof node !== 'object') return node;
  const mapped = Object.fromEntries(Object.entries(node).map(([key, child]) => [key, byType(child, definitions)]));
  const branches = node.anyOf && flatten(node, definitions);
  if (!branches || branches.some((branch) => branch.tag === undefined)) return mapped;
  const groups = new Map();
  for (const branch of branches) groups.set(branch.tag, [...(groups.get(branch.tag) ?? []), branch]);
  const { anyOf: _replaced, ...rest } = mapped;
  const oneOf = [...groups].map(([tag, group]) => ({
    type: 'object',
    properties: { type: { const: tag } },
    required: ['type'],
    anyOf: group.map((branch) => byType(branch.schema, definitions)),
  }));
  return { ...rest, type: 'object', required: ['type'], discriminator: { propertyName: 'type' }, oneOf };
}

// The branches of a union and of the unions inside it, each with the constant of its `type`.
function flatten(schema, definitions) {
  const target = schema.$ref ? definitions[schema.$ref.replace('#/definitions/', '')] : schema;
  if (target.anyOf) return target.anyOf.flatMap((branch) => flatten(branch, definitions));
  return [{ tag: target.properties?.type?.const, schema }];
}

function validator() {
  const config = { path: join(here, 'root.ts'), tsconfig: join(here, 'tsconfig.json'), type: 'Root' };
  const schema = createGenerator(config).createSchema('Root');
  const ajv = new Ajv({ allErrors: true, discriminator: true, strict: false });
  return ajv.compile(byType(schema, schema.definitions));
}

const validate = validator();

// Teams' schema of the version that the manifest names; Microsoft's package ships every one of them.
function teamsComplaints(manifest) {
  const version = `v${manifest.manifestVersion}`;
  if (manifest.$schema !== `https://developer.microsoft.com/json-schemas/teams/${version}/MicrosoftTeams.schema.json`) {
    return [['/manifest/$schema', `is not that of ${version}`]];
  }
  const path = join(teamsSchemas(), version, 'MicrosoftTeams.schema.json');
  const check = new AjvDraft04({ allErrors: true, strict: false, logger: false }).compile(JSON.parse(readFileSync(path, 'utf8')));
  if (check(manifest)) return [];
  return check.errors.map(({ instancePath, message, params }) => [
    `/manifest${instancePath}`,
    params.additionalProperty === undefined ? message : `${message}: ${params.additionalProperty}`,
  ]);
}

// The package's own entry point stands beside its schemas, in `build`.
function teamsSchemas() {
  const entry = createRequire(import.meta.url).resolve('@microsoft/app-manifest');
  return join(entry.slice(0, entry.lastIndexOf('/build/')), 'build', 'json-schemas', 'teams');
}

// What the types say of one value of `Root`, as [path, complaint].
function complaints(root) {
  if (validate(root)) return [];
  return validate.errors
    .filter((error) => error.keyword !== 'anyOf')
    .map(({ instancePath, message, params }) => {
      const detail = params.additionalProperty ?? params.unevaluatedProperty ?? params.allowedValue ?? params.tagValue;
      return [instancePath, detail === undefined ? message : `${message}: ${JSON.stringify(detail)}`];
    });
}

function refusedNames(method, body) {
  if (method === 'response' || method === 'ack') {
    const unknown = Object.keys(body).filter((name) => !METHODS.reply_arguments.includes(name));
    return unknown.map((name) => [`/${name}`, 'is no argument of a reply']);
  }
  const unknown = Object.keys(body).filter((name) => complaints({ names: { [method]: name } }).length > 0);
  return unknown.map((name) => [`/${name}`, `is no argument of ${method}`]);
}

function pick(body, names) {
  return Object.fromEntries(names.filter((name) => name in body).map((name) => [name, body[name]]));
}

// Checks one payload; `checked` is false for a method that carries no blocks; Teams' cards are lengths.py's part.
function check({ method, body }) {
  if ([...METHODS.without_blocks, ...METHODS.activity].includes(method)) return { checked: false, refusals: [] };
  if (body === null || typeof body !== 'object' || Array.isArray(body)) {
    return { checked: true, refusals: [['', 'the body is no object']] };
  }
  if (METHODS.message.includes(method)) {
    const message = pick(body, ['text', 'blocks', 'response_type']);
    return { checked: true, refusals: [...refusedNames(method, body), ...complaints({ message })] };
  }
  if (METHODS.view.includes(method)) {
    const missing = body.view === undefined ? [['/view', 'is missing']] : complaints({ view: body.view });
    return { checked: true, refusals: [...refusedNames(method, body), ...missing] };
  }
  return { checked: true, refusals: [['/method', `${JSON.stringify(method)} is not known; see methods.json`]] };
}

// Stands for long values in known.json: {"$repeat": "x", "times": 3} is "xxx", and a list repeats its one item.
function expand(value) {
  if (value === null || typeof value !== 'object') return value;
  if (Array.isArray(value)) return value.map(expand);
  if ('$repeat' in value) {
    const one = expand(value.$repeat);
    return typeof one === 'string' ? one.repeat(value.times) : Array(value.times).fill(one);
  }
  return Object.fromEntries(Object.entries(value).map(([key, child]) => [key, expand(child)]));
}

// What is known to be bad must be refused at the place that is bad, and what is known to be good accepted.
function selfTest() {
  const known = readJson('known.json').map(expand);
  let failures = 0;
  for (const { name, refused_by, at, payload, manifest, teams_manifest } of known) {
    const of_manifest = teams_manifest ? teamsComplaints(teams_manifest) : manifest && complaints({ manifest });
    const refusals = of_manifest ?? check(payload).refusals;
    const right = refused_by.includes('types')
      ? refusals.some(([path]) => path.startsWith(at))
      : refusals.length === 0;
    if (right) continue;
    failures += 1;
    console.log(`self-test: ${name}: expected ${refused_by.includes('types') ? `a refusal at ${at}` : 'no refusal'}`);
    refusals.forEach(([path, why]) => console.log(`    ${path} ${why}`));
  }
  const bad = known.filter(({ refused_by }) => refused_by.includes('types')).length;
  console.log(`self-test of the structure: ${bad} refused, ${known.length - bad} accepted, ${failures} wrong`);
  return failures === 0 && bad > 0;
}

function filesOf(path) {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path).filter((name) => name.endsWith('.jsonl')).sort().map((name) => join(path, name));
}

function checkFiles(paths) {
  const counts = { checked: 0, refused: 0 };
  const print = (place, refusals) => {
    counts.refused += refusals.length > 0 ? 1 : 0;
    refusals.forEach(([path, why]) => console.log(`${place}: ${path || '/'} ${why}`));
  };
  for (const file of paths.flatMap(filesOf)) {
    const text = readFileSync(file, 'utf8');
    if (extname(file) === '.json') {
      print(file, teamsComplaints(JSON.parse(text)));
      continue;
    }
    if (extname(file) !== '.jsonl') {
      print(file, complaints({ manifest: parseYaml(text) }));
      continue;
    }
    text.split('\n').forEach((line, index) => {
      if (line.trim() === '') return;
      const { checked, refusals } = check(JSON.parse(line));
      counts.checked += checked ? 1 : 0;
      print(`${file}:${index + 1}`, refusals);
    });
  }
  if (counts.refused > 0) console.log(`${counts.refused} refused`);
  console.log(`${counts.checked} payloads checked`);
  return counts.refused === 0 && counts.checked > 0;
}

const args = process.argv.slice(2);
const paths = args.filter((arg) => arg !== '--self-test');
const sound = !args.includes('--self-test') || selfTest();
const clean = paths.length === 0 ? args.length > 0 : checkFiles(paths);
process.exitCode = sound && clean ? 0 : 1;
