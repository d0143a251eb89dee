/* service_templates.h - the files of config/ that `renga service` fills in; cmake/embed.cmake makes
 * them a part of the program. */
#ifndef RG_CLI_SERVICE_TEMPLATES_H
#define RG_CLI_SERVICE_TEMPLATES_H

extern const char rg_service_template_launchd[];
extern const char rg_service_template_newsyslog[];
extern const char rg_service_template_systemd[];

#endif
