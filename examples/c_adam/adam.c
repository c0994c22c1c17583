/* Adam in C, on floats, behind the interface of refoptim's exported vectors:
 *
 *     refoptim vectors export --lang c --filter adam vectors
 *     cc -std=c99 -O2 -Ivectors -o check vectors/refoptim_main.c adam.c -lm && ./check adam.f32
 */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "refoptim.h"

typedef struct {
    double lr, beta1, beta2, eps, weight_decay;
    bool amsgrad, maximize, decoupled;
} adam_options;

typedef struct {
    const adam_options *options;
    size_t size, step;
    float *theta, *exp_avg, *exp_avg_sq, *max_exp_avg_sq;
} adam_param;

static void adam(adam_param *p, const float *grad) {
    const adam_options *o = p->options;
    float beta1 = (float)o->beta1, beta2 = (float)o->beta2, weight_decay = (float)o->weight_decay, eps = (float)o->eps;
    p->step++;
    float step_size = (float)(o->lr / (1 - pow(o->beta1, (double)p->step)));
    float root = (float)sqrt(1 - pow(o->beta2, (double)p->step));
    float rest1 = (float)(1 - o->beta1), rest2 = (float)(1 - o->beta2), shrink = (float)(1 - o->lr * o->weight_decay);
    for (size_t i = 0; i < p->size; i++) {
        float g = o->maximize ? -grad[i] : grad[i];
        if (o->decoupled) p->theta[i] *= shrink;
        else if (weight_decay != 0) g += weight_decay * p->theta[i];
        float m = p->exp_avg[i] = beta1 * p->exp_avg[i] + rest1 * g;
        float v = p->exp_avg_sq[i] = beta2 * p->exp_avg_sq[i] + rest2 * g * g;
        if (o->amsgrad) {
            if (!(v <= p->max_exp_avg_sq[i])) p->max_exp_avg_sq[i] = v; /* where it is not a number, too */
            v = p->max_exp_avg_sq[i];
        }
        p->theta[i] -= step_size * m / (sqrtf(v) / root + eps);
    }
}

/* The interface. */

enum { MOST = 16 };
static adam_options groups[MOST];
static adam_param params[MOST];
static size_t param_count;

static float *zeros(size_t size) {
    float *found = calloc(size + 1, sizeof *found);
    return found ? found : (exit(2), found);
}

static void start_param(adam_param *p, const refoptim_param *from) {
    free(p->theta), free(p->exp_avg), free(p->exp_avg_sq), free(p->max_exp_avg_sq);
    *p = (adam_param){NULL, from->size, 0, zeros(from->size), zeros(from->size), zeros(from->size), zeros(from->size)};
    for (size_t i = 0; i < p->size; i++) p->theta[i] = (float)refoptim_double(from->init[i]);
}

static bool read_option(adam_options *o, const refoptim_option *option) { /* false: there is no such option */
    double x = option->count ? refoptim_double(option->numbers[0]) : 0;
    if (!strcmp(option->name, "lr")) o->lr = x;
    else if (!strcmp(option->name, "betas")) o->beta1 = x, o->beta2 = refoptim_double(option->numbers[1]);
    else if (!strcmp(option->name, "eps")) o->eps = x;
    else if (!strcmp(option->name, "weight_decay")) o->weight_decay = x;
    else if (!strcmp(option->name, "amsgrad")) o->amsgrad = x != 0;
    else if (!strcmp(option->name, "maximize")) o->maximize = x != 0;
    else if (!strcmp(option->name, "decoupled_weight_decay")) o->decoupled = x != 0;
    else return x == 0 && !option->text;
    return true;
}

static bool makes_sense(const adam_options *o) {
    bool betas = o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && o->beta2 < 1;
    return betas && o->lr >= 0 && o->eps >= 0 && o->weight_decay >= 0;
}

int refoptim_start(const refoptim_vector *vector) {
    bool adamw = !strcmp(vector->algorithm, "AdamW");
    if (!adamw && strcmp(vector->algorithm, "Adam")) return REFOPTIM_UNSUPPORTED;
    if (strcmp(vector->dtype, "f32") && strcmp(vector->dtype, "c64")) return REFOPTIM_UNSUPPORTED;
    if (vector->param_count > MOST || vector->group_count > MOST) return REFOPTIM_UNSUPPORTED;
    param_count = vector->param_count;
    for (size_t i = 0; i < param_count; i++) start_param(&params[i], &vector->params[i]);
    for (size_t k = 0; k < vector->group_count; k++) {
        const refoptim_group *group = &vector->groups[k];
        groups[k] = (adam_options){1e-3, 0.9, 0.999, 1e-8, adamw ? 1e-2 : 0, false, false, adamw};
        for (size_t i = 0; i < group->option_count; i++)
            if (!read_option(&groups[k], &group->options[i])) return REFOPTIM_UNSUPPORTED;
        if (!makes_sense(&groups[k])) return REFOPTIM_REJECTED;
        for (size_t i = 0; i < group->param_count; i++) {
            if (params[group->params[i]].options) return REFOPTIM_REJECTED;
            params[group->params[i]].options = &groups[k];
        }
    }
    return REFOPTIM_OK;
}

void refoptim_step_once(const refoptim_step *step) {
    for (size_t k = 0; k < step->group_count; k++) groups[k].lr = refoptim_double(step->lrs[k]);
    for (size_t i = 0; i < step->param_count; i++) {
        const refoptim_grad *grad = &step->grads[i];
        if (!grad->values) continue;
        float *g = zeros(grad->size);
        for (size_t j = 0; j < grad->size; j++) g[j] = (float)refoptim_double(grad->values[j]);
        adam(&params[i], g);
        free(g);
    }
}

int refoptim_read(size_t param, const char *quantity, double *values) {
    const adam_param *p = &params[param];
    const float *x = NULL;
    if (!strcmp(quantity, "theta")) x = p->theta;
    if (!strcmp(quantity, "exp_avg")) x = p->exp_avg;
    if (!strcmp(quantity, "exp_avg_sq")) x = p->exp_avg_sq;
    if (!strcmp(quantity, "max_exp_avg_sq")) x = p->max_exp_avg_sq;
    for (size_t i = 0; x && i < p->size; i++) values[i] = x[i];
    return x != NULL;
}
