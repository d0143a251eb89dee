/* fields.h - tables of JSON fields and the one walk that applies them.
 *
 * A null is the same as an absent field.  Each other value is checked for its type, then for its
 * range, then handed to take().  A field that no row names is 400 unknown_field. */
#ifndef RG_API_FIELDS_H
#define RG_API_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "api/chat_request.h"
#include "base/json.h"

enum rg_field_use {
    RG_FIELD_HONOURED,
    RG_FIELD_ACCEPTED, /* it cannot change the text; take() refuses the values that could */
    RG_FIELD_REFUSED   /* any value but null is 400 unsupported */
};

enum rg_field_type {
    RG_FIELD_BOOL,
    RG_FIELD_INT,
    RG_FIELD_NUMBER,
    RG_FIELD_STRING,
    RG_FIELD_ARRAY,
    RG_FIELD_OBJECT,
    RG_FIELD_ANY /* take() checks */
};

/* What the walk fills.  Numbers keep "not given" apart from every value. */
struct rg_chat_values {
    double  temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
    int64_t n, max_tokens, max_completion_tokens, top_k, top_logprobs; /* -1: not given */
    bool    stream, include_usage, logprobs, has_stream_options;
    bool    has_model, has_messages;
};

struct rg_fields_walk {
    const struct rg_llm    *llm;
    struct rg_chat_request *request;
    struct rg_chat_values  *values;
    struct rg_api_error    *error;
    uint32_t                role; /* of the message being walked: a bit of enum rg_role */
};

struct rg_field {
    const char        *name;
    enum rg_field_use  use;
    enum rg_field_type type;
    double             least, most; /* of INT and NUMBER */
    size_t             offset;      /* in struct rg_chat_values, when there is no take() */
    bool (*take)(struct rg_fields_walk *w, const struct rg_json *value, const char *param);
    const char        *doc;         /* for people: the range, and what happens */
};

/* Applies rows to the members of object.  prefix is "" or ends with a dot ("messages[3]."). */
bool rg_fields_apply(struct rg_fields_walk *w, const struct rg_json *object,
                     const struct rg_field *rows, const char *prefix);

bool rg_field_wrong_type(struct rg_fields_walk *w, const struct rg_json *value, const char *param,
                         const char *want);

enum { RG_PARAM_BYTES = 128 };

/* The name of a field, "messages[3].content"; a longer one is cut. */
RG_PRINTF(2, 3)
void rg_field_param(char out[RG_PARAM_BYTES], const char *format, ...);

extern const struct rg_field rg_chat_fields[];
extern const struct rg_field rg_stream_option_fields[];
extern const struct rg_field rg_message_fields[];
extern const struct rg_field rg_part_fields[];
extern const struct rg_field rg_tool_call_fields[];
extern const struct rg_field rg_call_function_fields[];

/* chat_messages.c */
bool rg_chat_take_messages(struct rg_fields_walk *w, const struct rg_json *value,
                           const char *param);

#endif
