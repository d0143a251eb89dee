/* limits.h - every maximum of the program, with its reason.
 *
 * A limit is compared before the number from outside is used.  Those that a flag can change say so;
 * the others are bounds of formats and protect the process. */
#ifndef RG_BASE_LIMITS_H
#define RG_BASE_LIMITS_H

/* files */
#define RG_LIMIT_CONFIG_BYTES (1u << 20)     /* config.json and its like: a few KiB in practice */
#define RG_LIMIT_TOKENIZER_BYTES (64u << 20) /* tokenizer.json: 33 MiB is the largest known */
#define RG_LIMIT_TEMPLATE_BYTES (256u << 10) /* chat templates: 17 KiB is the largest known */
#define RG_LIMIT_ST_HEADER_BYTES 100000000u  /* safetensors' own limit */
#define RG_LIMIT_ST_TENSORS 262144u          /* per file; a 1T MoE unstacked has 200 k in all */
#define RG_LIMIT_ST_NAME_BYTES 512u
#define RG_LIMIT_ST_RANK 8u
#define RG_LIMIT_INDEX_BYTES 100000000u /* index.json: a name per tensor, like the headers */
#define RG_LIMIT_SHARDS 4096u
#define RG_LIMIT_MAPS 8192u /* files mapped at once: two checkpoints of that many */

/* model shapes: far above every known model, far below an overflow */
#define RG_LIMIT_LAYERS 1024u
#define RG_LIMIT_DIM (1u << 20) /* hidden, intermediate sizes */
#define RG_LIMIT_HEADS 4096u
#define RG_LIMIT_EXPERTS 65536u
#define RG_LIMIT_VOCAB (1u << 22)
#define RG_LIMIT_CONTEXT (1u << 24)

/* text */
#define RG_LIMIT_TEMPLATE_DEPTH 64u /* nesting of expressions, blocks and macro calls */
/* Evaluated nodes of one rendering, less than a second: a template that looks back from every
 * message needs more than a million for 1024 of them. */
#define RG_LIMIT_TEMPLATE_STEPS 4000000u
#define RG_LIMIT_TEMPLATE_OUT_BYTES (64u << 20) /* a prompt cannot be longer than a few bodies */

/* requests */
#define RG_LIMIT_BODY_BYTES (8u << 20)
/* Of all connections together; then 503.  A body up to the small size doesn't count, so that a few
 * large ones cannot keep everybody else out: RG_LIMIT_CONNECTIONS of them are 64 MiB. */
#define RG_LIMIT_BODIES_BYTES (256u << 20)
#define RG_LIMIT_SMALL_BODY_BYTES (64u << 10)
#define RG_LIMIT_HEADER_BYTES (16u << 10)
#define RG_LIMIT_HEADERS 100u
#define RG_LIMIT_URL_BYTES (2u << 10)
#define RG_LIMIT_CONNECTIONS 1024u
#define RG_LIMIT_CONNECTIONS_PER_ADDRESS 256u
#define RG_LIMIT_REQUESTS_PER_CONNECTION 1000u
#define RG_LIMIT_JSON_DEPTH 64u
#define RG_LIMIT_MESSAGES 1024u
#define RG_LIMIT_CHOICES 4u /* n */
#define RG_LIMIT_STOPS 4u
#define RG_LIMIT_STOP_BYTES 64u
#define RG_LIMIT_TOP_LOGPROBS 20u
#define RG_LIMIT_LOGIT_BIAS 1024u
#define RG_LIMIT_QUEUE 256u            /* waiting requests; then 429 */
#define RG_LIMIT_SEND_BYTES (1u << 20) /* unsent bytes of one connection; then it is cut */

/* the ring */
#define RG_LIMIT_PEERS 64u
#define RG_LIMIT_NODE_ID_BYTES 128u
#define RG_LIMIT_DISCOVERY_BYTES (1u << 20)
#define RG_LIMIT_HELLO_BYTES (48u << 10)   /* 1024 layers with a digest each are 25 KiB */
#define RG_LIMIT_CONTROL_BYTES (64u << 10)
#define RG_LIMIT_FORWARDS 128u /* requests of other nodes at once: half of a head's links */
#define RG_LIMIT_FORWARD_BYTES (RG_LIMIT_BODY_BYTES + (64u << 10)) /* a body and its head */
#define RG_LIMIT_STEP_ROWS 4352u            /* --chunk 4096 and --parallel 256 */
#define RG_LIMIT_STEP_HEAD_BYTES (4u << 20) /* a step without its rows: block numbers */
#define RG_LIMIT_STEP_BYTES (256u << 20)    /* 4352 rows of 14 k columns */
#define RG_LIMIT_LINK_QUEUE 64u            /* messages waiting to be sent on one link */

/* times, in milliseconds */
#define RG_LIMIT_HEADER_WAIT_MS 10000
#define RG_LIMIT_BODY_WAIT_MS 10000
#define RG_LIMIT_WRITE_STALL_MS 30000
#define RG_LIMIT_IDLE_MS 60000
#define RG_LIMIT_DRAIN_MS 30000
#define RG_LIMIT_HEARTBEAT_MS 500
#define RG_LIMIT_PEER_SILENCE_MS 4000  /* then a peer is dead */
#define RG_LIMIT_PEER_STUCK_MS 30000   /* busy and no layer finished: dead too (--stuck-timeout) */
#define RG_LIMIT_HELLO_WAIT_MS 5000
#define RG_LIMIT_COMMIT_WAIT_MS 5000
#define RG_LIMIT_REDIAL_MS 500         /* at first; doubles up to RG_LIMIT_REDIAL_MOST_MS */
#define RG_LIMIT_REDIAL_MOST_MS 2000
#define RG_LIMIT_SSE_COMMENT_MS 5000 /* a keep-alive comment while prefill runs */

#endif
