/* doctor.h - `renga doctor`: what is wrong with this machine, its links and its files.
 *
 * One line for each thing that was looked at, with what to do; or JSON ("renga.doctor/1").  Needs
 * no daemon here; of other nodes it needs a running one to measure the way there. Failure
 * RG_E_PEER: a peer is not reachable; RG_E_IO: something here would stop the ring; both after the
 * report was printed. */
#ifndef RG_CLI_DOCTOR_H
#define RG_CLI_DOCTOR_H

#include "base/err.h"
#include "cli/options.h"

RG_CHECKED enum rg_code rg_doctor(const struct rg_options *o, struct rg_err *err);

#endif
