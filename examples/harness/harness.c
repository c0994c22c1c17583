/* A harness in C: SGD, Adam and AdamW as one would write them from the documentation, one rounding per operation,
 * behind the protocol of refoptim's conformance suite:
 *     cc -std=c99 -O2 -o harness harness.c -lm && refoptim check -- ./harness
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* JSON: values stay in the line and are found there by name. Commas and colons are no more than blanks. */
static const char *blank(const char *p) { return p + strspn(p, " \t\r\n,:"); }
static const char *first(const char *p) { return *p == '[' || *p == '{' ? blank(p + 1) : ""; }
static bool more(const char *p) { return *p && *p != ']' && *p != '}'; }
static size_t length(const char *string) { return *string == '"' ? strcspn(string + 1, "\"") : 0; }

static const char *next(const char *p) { /* what comes after a value */
    int depth = 0;
    do {
        if (*p == '"') p += length(p) + 2; /* the protocol's strings have no escapes */
        else if (*p && strchr("[{]}", *p)) depth += *p == '[' || *p == '{' ? 1 : -1, p++;
        else p += strcspn(p, " \t\r\n,:[]{}");
        p = blank(p);
    } while (depth > 0 && *p);
    return p;
}

static bool is(const char *p, const char *s) { return length(p) == strlen(s) && strncmp(p + 1, s, strlen(s)) == 0; }

static const char *member(const char *object, const char *name) {
    for (const char *p = first(object); more(p); p = next(next(p)))
        if (is(p, name)) return next(p);
    return "";
}

/* Bits: big-endian, in hexadecimal digits. A complex number is two real ones, each stepped by itself. */
static bool narrow; /* whether the numbers are floats */
union number { float f32; uint32_t bits32; double f64; uint64_t bits64; };

static double from_hex(const char *digits, bool as_float) {
    char copy[17] = "";
    uint64_t bits = strtoull(strncpy(copy, digits, as_float ? 8 : 16), NULL, 16);
    return as_float ? ((union number){.bits32 = (uint32_t)bits}).f32 : ((union number){.bits64 = bits}).f64;
}

static double scalar(const char *value) { /* not a number: neither a number nor a boolean */
    if (*value == '{') return from_hex(member(value, "f64") + 1, false);
    return *value == 't' ? 1 : *value == '"' || *value == '[' ? NAN : atof(value);
}

static void print(const char *name, const double *x, int n) {
    printf("\"%s\":\"", name);
    for (int i = 0; i < n; i++)
        if (narrow) printf("%08lx", (unsigned long)((union number){.f32 = (float)x[i]}).bits32);
        else printf("%016llx", (unsigned long long)((union number){.f64 = x[i]}).bits64);
    printf("\"");
}

/* The rules. A double's sum, product, quotient or root of floats, rounded to a float, is the float's own. */
enum { LR, MOMENTUM, DAMPENING, NESTEROV, BETA1, BETA2, EPS, AMSGRAD, DECOUPLED, WEIGHT_DECAY, MAXIMIZE, OPTIONS };
static const char *const option[OPTIONS] = {"lr", "momentum", "dampening", "nesterov", "betas", "betas", "eps",
                                            "amsgrad", "decoupled_weight_decay", "weight_decay", "maximize"};
enum { MOST = 16, LARGEST = 1024 }; /* parameters or groups, and numbers of a parameter */
static double groups[MOST + 1][OPTIONS];
static struct param {
    int size, step;
    char name[64];
    double *options, theta[LARGEST], state[3][LARGEST];
} params[MOST + 1];

static double f(double x) { return narrow ? (float)x : x; }
static double direction(double g, double theta, const double *o) {
    double d = o[MAXIMIZE] ? -g : g;
    return o[WEIGHT_DECAY] == 0 || o[DECOUPLED] ? d : f(d + f(o[WEIGHT_DECAY] * theta));
}

static void sgd(struct param *p, const double *g, const double *o) {
    for (int i = 0; i < p->size; i++) {
        double d = direction(g[i], p->theta[i], o), *buffer = &p->state[0][i];
        if (o[MOMENTUM] != 0) {
            *buffer = p->step == 1 ? d : f(f(o[MOMENTUM] * *buffer) + f((1 - o[DAMPENING]) * d));
            d = o[NESTEROV] ? f(d + f(o[MOMENTUM] * *buffer)) : *buffer;
        }
        p->theta[i] = f(p->theta[i] - f(o[LR] * d));
    }
}

static void adam(struct param *p, const double *g, const double *o) {
    double correction1 = 1 - pow(o[BETA1], p->step), correction2 = 1 - pow(o[BETA2], p->step);
    for (int i = 0; i < p->size; i++) {
        double d = direction(g[i], p->theta[i], o), *m = &p->state[0][i], *v = &p->state[1][i], *w = &p->state[2][i];
        if (o[DECOUPLED]) p->theta[i] = f(p->theta[i] * (1 - o[LR] * o[WEIGHT_DECAY]));
        *m = f(f(o[BETA1] * *m) + f((1 - o[BETA1]) * d));
        *v = f(f(o[BETA2] * *v) + f(f((1 - o[BETA2]) * d) * d));
        if (!(*v <= *w)) *w = *v; /* where it is not a number, too */
        double divisor = f(f(f(sqrt(o[AMSGRAD] ? *w : *v)) / sqrt(correction2)) + o[EPS]);
        p->theta[i] = f(p->theta[i] - f(f(o[LR] / correction1 * *m) / divisor));
    }
}

static const struct optimizer {
    const char *name, *state[3];
    void (*rule)(struct param *p, const double *g, const double *o);
    double defaults[OPTIONS];
} optimizers[] = {
    {"SGD", {"momentum_buffer"}, sgd, {1e-3}},
    {"Adam", {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}, adam, {1e-3, [BETA1] = 0.9, 0.999, 1e-8}},
    {"AdamW", {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}, adam,
     {1e-3, [BETA1] = 0.9, 0.999, 1e-8, [DECOUPLED] = 1, [WEIGHT_DECAY] = 1e-2}},
}, *optimizer;

static bool refused; /* the answer is the first refusal */
#define refuse(...) (refused = refused || printf(__VA_ARGS__) > 0)
#define unsupported(kind, text) refuse("\"unsupported\":[\"" kind ":%.*s\"]", (int)length(text), text + 1)
#define rejected(why) refuse("\"rejected\":true,\"error\":{\"kind\":\"ValueError\",\"message\":\"" why "\"}")

static void read_options(const char *given, double *o) {
    for (const char *p = first(given); more(p); p = next(next(p))) {
        int i = 0;
        while (i < OPTIONS && !is(p, option[i])) i++;
        if (i == BETA1) o[i] = scalar(first(next(p))), o[i + 1] = scalar(next(first(next(p))));
        else if (i < OPTIONS) o[i] = scalar(next(p));
        else if (scalar(next(p)) != 0) unsupported("option", p);
    }
    for (int i = 0; i < OPTIONS; i++)
        if ((i != DAMPENING && o[i] < 0) || ((i == BETA1 || i == BETA2) && o[i] >= 1)) rejected("out of range");
    if (o[NESTEROV] && (o[MOMENTUM] == 0 || o[DAMPENING] != 0)) rejected("nesterov needs momentum alone");
}

static void die(const char *why) { fprintf(stderr, "%s\n", why), exit(1); }
static int read_numbers(const char *text, double *x) { /* returns how many there are */
    int digits = narrow ? 8 : 16, n = (int)length(text) / digits;
    if (n > LARGEST) die("a parameter is larger than LARGEST");
    for (int i = 0; i < n; i++) x[i] = from_hex(text + 1 + i * digits, narrow);
    return n;
}

static void start(const char *problem) { /* reads all but the steps, and refuses what cannot be done */
    const char *algorithm = member(problem, "algorithm"), *dtype = member(problem, "dtype"), *p, *group, *step;
    int n = 0, k = 0;
    narrow = is(dtype, "f32") || is(dtype, "c64");
    if (!narrow && !is(dtype, "f64") && !is(dtype, "c128")) unsupported("dtype", dtype);
    for (optimizer = optimizers; optimizer < optimizers + 2 && !is(algorithm, optimizer->name);) optimizer++;
    if (!is(algorithm, optimizer->name)) unsupported("optimizer", algorithm);
    memset(params, 0, sizeof params);
    for (p = first(member(problem, "params")); more(p) && n < MOST; p = next(p), n++) {
        snprintf(params[n].name, 64, "%.*s", (int)length(member(p, "name")), member(p, "name") + 1);
        params[n].size = read_numbers(member(p, "init"), params[n].theta);
    }
    for (group = first(member(problem, "groups")); more(group) && k < MOST; group = next(group), k++) {
        read_options(member(group, "options"), memcpy(groups[k], optimizer->defaults, sizeof groups[k]));
        for (const char *name = first(member(group, "params")); more(name); name = next(name))
            for (struct param *q = params; *q->name; q++)
                if (is(name, q->name) && q->options) rejected("a parameter is in two groups");
                else if (is(name, q->name)) q->options = groups[k];
    }
    if (more(p) || more(group)) die("more parameters or groups than MOST");
    for (step = first(member(problem, "steps")); more(step); step = next(step))
        for (p = first(member(step, "grads")); more(p); p = next(next(p)))
            if (*next(p) == '{') unsupported("feature", "\"sparse\"");
}

static void run(const char *problem) {
    static double g[LARGEST];
    const char *step = first(member(problem, "steps")), *record = first(member(problem, "record")), *p;
    if (!refused) printf("\"after\":[");
    for (int k = 0, t = 1; !refused && more(step); step = next(step), t++, k = 0) {
        for (p = first(member(step, "lr")); more(p); p = next(p)) groups[k++][LR] = from_hex(p + 1, false);
        for (struct param *q = params; *q->name; q++)
            if (read_numbers(member(member(step, "grads"), q->name), g) && ++q->step) optimizer->rule(q, g, q->options);
        if (atoi(record) != t) continue;
        for (struct param *q = params; *q->name; q++) {
            printf(q == params ? "{\"%s\":{" : "},\"%s\":{", q->name);
            print("theta", q->theta, q->size);
            for (int i = 0; i < 3 && optimizer->state[i] && q->step; i++) /* what nobody expects is not looked at */
                printf(","), print(optimizer->state[i], q->state[i], q->size);
        }
        record = next(record);
        printf(more(record) ? "}}," : "}}]");
    }
}

int main(void) {
    static char line[1 << 24];
    for (; fgets(line, sizeof line, stdin) && !is(member(line, "cmd"), "bye"); fflush(stdout)) {
        const char *cmd = member(line, "cmd"), *seq = member(line, "seq"), *problem = member(line, "problem");
        refused = false;
        printf(*seq ? "{\"seq\":%d," : "{", atoi(seq));
        if (is(cmd, "hello"))
            printf("\"ok\":true,\"protocol\":1,\"implementation\":{\"name\":\"C harness\",\"version\":\"1\","
                   "\"language\":\"C\",\"homepage\":\"\"},\"optimizers\":null,\"schedulers\":[],\"dialect\":\"torch\"");
        else if (is(cmd, "run")) start(problem), run(problem);
        else if (is(cmd, "step")) unsupported("feature", "\"set_state\"");
        else if (is(cmd, "schedule") || is(cmd, "trace")) unsupported("optimizer", member(problem, "algorithm"));
        else printf("\"errored\":true,\"error\":{\"kind\":\"UnknownCommand\",\"message\":\"not hello, run or bye\"}");
        printf("}\n");
    }
}
