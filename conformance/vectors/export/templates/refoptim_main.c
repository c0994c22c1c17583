/* Puts the vectors to an implementation and compares: see refoptim.h. Ends with 0 if all conform, 1 if one does not or
 * none was compared, 2 if no vector has the name.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "refoptim_vectors.h"

/* The largest absolute value of a number so far, the initial one included. */
static double largest(const refoptim_vector *vector, const refoptim_expected *now, size_t i) {
    double found = 0;
    if (strcmp(now->quantity, "theta") == 0) found = fabs(refoptim_double(vector->params[now->param].init[i]));
    for (const refoptim_expected *past = vector->expected; past <= now; past++)
        if (past->param == now->param && strcmp(past->quantity, now->quantity) == 0)
            found = fmax(found, fabs(refoptim_double(past->high[i])));
    return found;
}

static double ulp(const refoptim_vector *vector, double scale) {
    int narrow = strcmp(vector->dtype, "f32") == 0 || strcmp(vector->dtype, "c64") == 0;
    return narrow ? nextafterf((float)scale, INFINITY) - (float)scale : nextafter(scale, INFINITY) - scale;
}

static char class_of(double x) { return isnan(x) ? 'n' : isinf(x) ? (x > 0 ? 'p' : 'm') : x == 0 ? 'z' : 'f'; }

/* Whether a number is right; if not, says what is wrong. */
static int right(const refoptim_vector *vector, const refoptim_expected *now, size_t i, double got, double scale) {
    const char *param = vector->params[now->param].name;
    if (now->classes) {
        if (now->classes[i] == '?' || now->classes[i] == class_of(got)) return 1;
        printf("%s: step %zu, %s[%zu], %s: got %.17g, expected one of class %c\n", vector->id, now->step, param, i,
               now->quantity, got, now->classes[i]);
        return 0;
    }
    double high = refoptim_double(now->high[i]), low = now->low_size ? refoptim_double(now->low[i]) : 0;
    double error = fabs((got - high) - low) / ulp(vector, scale), budget = fmax(now->budget_a, now->budget_b);
    if (error <= budget) return 1;
    printf("%s: step %zu, %s[%zu], %s: got %.17g, expected %.17g, %.4g ulp off (budget %g)\n", vector->id, now->step,
           param, i, now->quantity, got, high, error, budget);
    return 0;
}

/* Returns how many numbers were compared, or -1 if one is wrong. */
static long compared(const refoptim_vector *vector, const refoptim_expected *now) {
    size_t size = now->classes ? strlen(now->classes) : now->size;
    double *values = calloc(size + 1, sizeof *values), most = 0;
    long count = 0;
    if (!values) exit(2);
    if (refoptim_read(now->param, now->quantity, values)) {
        for (size_t i = 0; i < size && vector->tensor; i++) most = fmax(most, largest(vector, now, i));
        for (size_t i = 0; i < size && count >= 0; i++) {
            double scale = now->classes || vector->tensor ? most : largest(vector, now, i);
            count = right(vector, now, i, values[i], scale) ? count + 1 : -1;
        }
    } else if (strcmp(now->quantity, "theta") == 0) {
        printf("%s: step %zu, %s: there is no theta\n", vector->id, now->step, vector->params[now->param].name);
        count = -1;
    }
    free(values);
    return count;
}

static int conforms(const refoptim_vector *vector, long *numbers) {
    const refoptim_expected *now = vector->expected, *end = now + vector->expected_count;
    for (size_t t = 1; t <= vector->step_count; t++) {
        refoptim_step_once(&vector->steps[t - 1]);
        for (; now < end && now->step == t; now++) {
            long count = compared(vector, now);
            if (count < 0) return 0;
            *numbers += count;
        }
    }
    return 1;
}

int main(int argc, char **argv) {
    size_t conform = 0, wrong = 0, unsupported = 0, all = sizeof refoptim_vectors / sizeof *refoptim_vectors;
    long numbers = 0;
    for (const refoptim_vector *vector = refoptim_vectors; vector < refoptim_vectors + all; vector++) {
        if (argc > 1 && !strstr(vector->id, argv[1])) continue;
        int answer = refoptim_start(vector);
        if (answer == REFOPTIM_UNSUPPORTED) {
            unsupported++;
        } else if ((answer == REFOPTIM_REJECTED) != vector->invalid) {
            printf("%s: %s\n", vector->id, vector->invalid ? "must be rejected" : "rejected, though it makes sense");
            wrong++;
        } else if (vector->invalid || conforms(vector, &numbers)) {
            conform++;
        } else {
            wrong++;
        }
    }
    printf("%zu conform, %zu do not, %zu are unsupported; ", conform, wrong, unsupported);
    printf("%ld numbers were compared\n", numbers);
    if (conform + wrong + unsupported == 0) return 2;
    return wrong || !conform;
}
