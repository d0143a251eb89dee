/* message_kinds.h - each kind of control message, from and to what protobuf-c unpacked.
 *
 * A decoder sets the member of its kind in *out and leaves nothing allocated when it fails; an
 * encoder appends the whole ControlMessage.
 * Private to message*.c. */
#ifndef RG_CLUSTER_MESSAGE_KINDS_H
#define RG_CLUSTER_MESSAGE_KINDS_H

#include <renga.pb-c.h>

#include "cluster/message.h"

typedef enum rg_code rg_message_decode_fn(struct rg_message *out,
                                          const Renga__V1__ControlMessage *m, struct rg_err *err);
typedef enum rg_code rg_message_encode_fn(struct rg_buf *out, const struct rg_message *m,
                                          struct rg_err *err);

rg_message_decode_fn rg_decode_hello, rg_decode_refuse, rg_decode_heartbeat, rg_decode_propose,
    rg_decode_ready, rg_decode_commit, rg_decode_commit_ack, rg_decode_abort;
rg_message_encode_fn rg_encode_hello, rg_encode_refuse, rg_encode_heartbeat, rg_encode_propose,
    rg_encode_ready, rg_encode_commit, rg_encode_commit_ack, rg_encode_abort;

#endif
