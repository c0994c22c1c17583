// A harness in JavaScript: optimizers and schedulers as one would write them from the documentation, one rounding per
// operation, behind the protocol of refoptim's conformance suite.
//
//     refoptim check -- node examples/harness/harness.js
"use strict";

const zeros = (like) => new Array(like.length).fill(0);

// The gradient of an element, or what the options make of it. f rounds to the parameter's precision.
function direction(g, theta, o, f) {
  const d = o.maximize ? -g : g;
  return o.weight_decay === 0 || o.decoupled_weight_decay ? d : f(d + f(o.weight_decay * theta));
}

// Each rule takes step t of one parameter: it changes theta and the arrays of its state s.
function sgd(theta, g, s, o, t, f) {
  const first = s.momentum_buffer === undefined;
  if (o.momentum !== 0) s.momentum_buffer ??= zeros(theta);
  for (let i = 0; i < theta.length; i++) {
    let d = direction(g[i], theta[i], o, f);
    if (o.momentum !== 0) {
      const buffer = first ? d : f(f(o.momentum * s.momentum_buffer[i]) + f((1 - o.dampening) * d));
      s.momentum_buffer[i] = buffer;
      d = o.nesterov ? f(d + f(o.momentum * buffer)) : buffer;
    }
    theta[i] = f(theta[i] - f(o.lr * d));
  }
}

function adam(theta, g, s, o, t, f) {
  const [beta1, beta2] = o.betas;
  const [correction1, correction2] = [1 - beta1 ** t, 1 - beta2 ** t];
  s.exp_avg ??= zeros(theta);
  s.exp_avg_sq ??= zeros(theta);
  if (o.amsgrad) s.max_exp_avg_sq ??= zeros(theta);
  for (let i = 0; i < theta.length; i++) {
    const d = direction(g[i], theta[i], o, f);
    if (o.decoupled_weight_decay) theta[i] = f(theta[i] * (1 - o.lr * o.weight_decay));
    const m = (s.exp_avg[i] = f(f(beta1 * s.exp_avg[i]) + f((1 - beta1) * d)));
    let v = (s.exp_avg_sq[i] = f(f(beta2 * s.exp_avg_sq[i]) + f(f((1 - beta2) * d) * d)));
    if (o.amsgrad) v = s.max_exp_avg_sq[i] = Math.max(s.max_exp_avg_sq[i], v);
    const divisor = f(f(f(Math.sqrt(v)) / Math.sqrt(correction2)) + o.eps);
    theta[i] = f(theta[i] - f(f((o.lr / correction1) * m) / divisor));
  }
}

function rmsprop(theta, g, s, o, t, f) {
  s.square_avg ??= zeros(theta);
  if (o.centered) s.grad_avg ??= zeros(theta);
  if (o.momentum !== 0) s.momentum_buffer ??= zeros(theta);
  for (let i = 0; i < theta.length; i++) {
    let d = direction(g[i], theta[i], o, f);
    let v = (s.square_avg[i] = f(f(o.alpha * s.square_avg[i]) + f(f((1 - o.alpha) * d) * d)));
    if (o.centered) s.grad_avg[i] = f(f(o.alpha * s.grad_avg[i]) + f((1 - o.alpha) * d));
    if (o.centered) v = f(v - f(s.grad_avg[i] * s.grad_avg[i]));
    d = f(d / f(f(Math.sqrt(v)) + o.eps));
    if (o.momentum !== 0) d = s.momentum_buffer[i] = f(f(o.momentum * s.momentum_buffer[i]) + d);
    theta[i] = f(theta[i] - f(o.lr * d));
  }
}

function adagrad(theta, g, s, o, t, f) {
  s.sum ??= zeros(theta).fill(f(o.initial_accumulator_value));
  const lr = o.lr / (1 + (t - 1) * o.lr_decay);
  for (let i = 0; i < theta.length; i++) {
    const d = direction(g[i], theta[i], o, f);
    s.sum[i] = f(s.sum[i] + f(d * d));
    theta[i] = f(theta[i] - f(f(lr * d) / f(f(Math.sqrt(s.sum[i])) + o.eps)));
  }
}

// The rule and the documented options, as far as they are computed here. What else is asked for is unsupported.
const L2 = { weight_decay: 0, maximize: false };
const ADAM = { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, ...L2, amsgrad: false };
const OPTIMIZERS = {
  SGD: [sgd, { lr: 1e-3, momentum: 0, dampening: 0, nesterov: false, ...L2 }],
  Adam: [adam, { ...ADAM, decoupled_weight_decay: false }],
  AdamW: [adam, { ...ADAM, weight_decay: 1e-2 }, { decoupled_weight_decay: true }],
  RMSprop: [rmsprop, { lr: 1e-2, alpha: 0.99, eps: 1e-8, momentum: 0, centered: false, ...L2 }],
  Adagrad: [adagrad, { lr: 1e-2, lr_decay: 0, eps: 1e-10, initial_accumulator_value: 0, ...L2 }],
};
const SCHEDULERS = {
  StepLR: (lr, epoch, o) => lr * o.gamma ** Math.floor(epoch / o.step_size),
  CosineAnnealingLR: (lr, epoch, o) => o.eta_min + ((lr - o.eta_min) * (1 + Math.cos((Math.PI * epoch) / o.T_max))) / 2,
};
const FEATURES = ["param_groups", "none_grad", "lr_per_step", "torch_defaults", "set_state"].map((x) => `feature:${x}`);

// Bits: big-endian, in hexadecimal digits. A complex number is two real ones, each stepped by itself.
const PRECISION = { f32: "Float", f64: "Double", c64: "Float", c128: "Double" };
const DIGITS = { Float: 8, Double: 16 };

function fromHex(hex, kind) {
  const bytes = Buffer.from(hex, "hex");
  return Array.from({ length: hex.length / DIGITS[kind] }, (_, i) => bytes[`read${kind}BE`]((i * DIGITS[kind]) / 2));
}

function toHex(numbers, kind) {
  const bytes = Buffer.alloc((numbers.length * DIGITS[kind]) / 2);
  numbers.forEach((x, i) => bytes[`write${kind}BE`](x, (i * DIGITS[kind]) / 2));
  return bytes.toString("hex");
}

const scalar = (x) => (x?.f64 ? fromHex(x.f64, "Double")[0] : x);
const decoded = (x) => (Array.isArray(x) ? x.map(scalar) : scalar(x));
const mapped = (object, f) => Object.fromEntries(Object.entries(object).map(([name, value]) => [name, f(value, name)]));
const unsupported = (...what) => ({ unsupported: what });
const rejected = (message) => ({ rejected: true, error: { kind: "ValueError", message } });

// Everything that a run changes; throws the answer if there is nothing to run.
function started(problem) {
  const { algorithm, dtype } = problem;
  if (!Object.hasOwn(OPTIMIZERS, algorithm)) throw unsupported(`optimizer:${algorithm}`);
  if (!Object.hasOwn(PRECISION, dtype)) throw unsupported(`dtype:${dtype}`);
  const [[rule, defaults, fixed], kind] = [OPTIMIZERS[algorithm], PRECISION[dtype]];
  const groups = problem.groups.map(({ params, options }) => {
    const given = mapped(options, decoded);
    const unknown = Object.keys(given).filter((name) => given[name] && !(name in defaults));
    if (unknown.length) throw unsupported(...unknown.map((name) => `option:${name}`));
    return { params, options: { ...checked({ ...defaults, ...given }), ...fixed } };
  });
  const names = groups.flatMap(({ params }) => params);
  if (new Set(names).size < names.length) throw rejected("a parameter is in two groups");
  const theta = Object.fromEntries(problem.params.map(({ name, init }) => [name, fromHex(init, kind)]));
  const state = mapped(theta, () => ({ step: 0 }));
  return { rule, groups, theta, state, kind, f: kind === "Float" ? Math.fround : (x) => x };
}

function checked(o) {
  const negative = Object.keys(o).find((name) => name !== "dampening" && o[name] < 0);
  if (negative) throw rejected(`${negative} is ${o[negative]}`);
  if (o.betas?.some((beta) => !(beta >= 0 && beta < 1))) throw rejected(`betas are ${o.betas}`);
  if (o.nesterov && (o.momentum === 0 || o.dampening !== 0)) throw rejected("nesterov needs momentum alone");
  return o;
}

// Takes a step and returns what there is to see of it.
function stepped({ rule, groups, theta, state, kind, f }, { lr, grads }) {
  groups.forEach(({ params, options }, k) => {
    if (lr.length) options.lr = fromHex(lr[k], "Double")[0];
    for (const name of params) {
      if (grads[name] === null) continue;
      if (typeof grads[name] !== "string") throw unsupported("feature:sparse");
      state[name].step++;
      rule(theta[name], fromHex(grads[name], kind), state[name], options, state[name].step, f);
    }
  });
  return mapped(theta, (numbers, name) => {
    const { step, ...arrays } = state[name];
    return mapped({ theta: numbers, ...arrays }, (array) => toHex(array, kind));
  });
}

const COMMANDS = {
  hello() {
    const implementation = { name: "JavaScript harness", version: "1", language: "JavaScript", homepage: "" };
    const dtypes = Object.keys(PRECISION).map((x) => `dtype:${x}`);
    const has = ([, options]) => [...dtypes, ...FEATURES, ...Object.keys(options).map((x) => `option:${x}`)];
    const [optimizers, schedulers] = [mapped(OPTIMIZERS, has), Object.keys(SCHEDULERS)];
    return { ok: true, protocol: 1, implementation, optimizers, schedulers, dialect: "torch" };
  },
  run({ problem }) {
    const now = started(problem);
    const all = problem.steps.map((step) => stepped(now, step));
    return { after: problem.record.map((t) => all[t - 1]) };
  },
  step({ problem, start }) {
    const now = started(problem);
    for (const [name, { step, ...arrays }] of Object.entries(start)) {
      const { theta, ...state } = mapped(arrays, (bits) => fromHex(bits, now.kind));
      now.theta[name] = theta;
      now.state[name] = { step, ...state };
    }
    return { after: [stepped(now, problem.steps[0])] };
  },
  schedule({ problem }) {
    if (!Object.hasOwn(SCHEDULERS, problem.algorithm)) throw unsupported(`scheduler:${problem.algorithm}`);
    const options = mapped(problem.options, decoded);
    const rate = (lr) => (epoch) => SCHEDULERS[problem.algorithm](decoded(lr), epoch, options);
    return { lr: problem.lr.map((lr) => toHex(problem.record.map(rate(lr)), "Double")) };
  },
  trace: ({ problem }) => unsupported(`optimizer:${problem.algorithm}`),
};

function answer({ seq, cmd, ...request }) {
  try {
    if (!Object.hasOwn(COMMANDS, cmd)) throw new Error(`unknown command ${cmd}`);
    return { seq, ...COMMANDS[cmd](request) };
  } catch (error) {
    if (!(error instanceof Error)) return { seq, ...error };
    return { seq, errored: true, error: { kind: error.name, message: error.message } };
  }
}

const lines = require("node:readline").createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const request = JSON.parse(line);
  if (request.cmd === "bye") lines.close();
  else process.stdout.write(`${JSON.stringify(answer(request))}\n`);
});
