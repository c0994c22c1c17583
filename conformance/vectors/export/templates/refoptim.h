/* Conformance vectors: problems for optimizers, with their exact answers. You write the three functions at the end,
 * refoptim_main.c asks them and compares:
 *
 *     cc -std=c99 -o check refoptim_main.c mine.c -lm && ./check adam.f32
 *
 * Numbers are bits of doubles, whatever the dtype: a float is one of them, a complex number is two.
 */
#ifndef REFOPTIM_H
#define REFOPTIM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const char *name;
    size_t rank;
    const size_t *shape;
    size_t size; /* of init: twice as many as there are elements if they are complex */
    const uint64_t *init;
} refoptim_param;

typedef struct {
    const char *name;
    const char *text; /* NULL if the option is no word */
    size_t count;     /* of numbers: true is 1, false is 0, and None is no number; betas are two */
    const uint64_t *numbers;
} refoptim_option;

typedef struct {
    size_t param_count;
    const size_t *params; /* counted from 0 */
    size_t option_count;  /* 0: torch's defaults hold */
    const refoptim_option *options;
} refoptim_group;

typedef struct {
    size_t row_count; /* 0: not sparse */
    const size_t *rows;
    size_t size;
    const uint64_t *values; /* NULL: there is no gradient */
} refoptim_grad;

typedef struct {
    size_t group_count; /* 0: torch's default learning rate holds */
    const uint64_t *lrs;
    size_t param_count;
    const refoptim_grad *grads;
} refoptim_step;

typedef struct {
    size_t step, param; /* after which step, counted from 1; of which parameter, counted from 0 */
    const char *quantity;
    double budget_a, budget_b;
    const char *classes; /* NULL, or for each number one of: n (not a number) p (infinity) m (minus infinity) z f ? */
    size_t size;
    const uint64_t *high; /* the exact value is the sum of both */
    size_t low_size;
    const uint64_t *low;
} refoptim_expected;

typedef struct {
    const char *id, *algorithm, *dtype;
    int invalid; /* the right answer is REFOPTIM_REJECTED */
    int tensor;  /* errors are counted beside the largest number of the tensor */
    size_t param_count;
    const refoptim_param *params;
    size_t group_count;
    const refoptim_group *groups;
    size_t step_count;
    const refoptim_step *steps;
    size_t expected_count;
    const refoptim_expected *expected;
} refoptim_vector;

static inline double refoptim_double(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

enum { REFOPTIM_OK, REFOPTIM_UNSUPPORTED, REFOPTIM_REJECTED };

/* Begin: parameters, groups, options. Say REFOPTIM_UNSUPPORTED to what you do not have, option by option, and
 * REFOPTIM_REJECTED to values that make no sense. */
int refoptim_start(const refoptim_vector *vector);

/* Take a step. */
void refoptim_step_once(const refoptim_step *step);

/* Write a parameter's numbers, "theta" or one of its state, and return 1; or return 0: you do not show this. */
int refoptim_read(size_t param, const char *quantity, double *values);

#endif
