/*
 * Replays inputs through a fuzz target without libFuzzer: each argument is a file, or a directory
 * whose files are taken.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned nruns;

static int run_file(const char *path, size_t size)
{
	uint8_t *data = malloc(size ? size : 1);
	FILE *f = fopen(path, "rb");
	int ok = data && f && fread(data, 1, size, f) == size;

	if (ok) {
		LLVMFuzzerTestOneInput(data, size);
		nruns++;
	} else {
		perror(path);
	}
	if (f)
		fclose(f);
	free(data);
	return ok ? 0 : 1;
}

static int run_path(const char *path)
{
	struct dirent *e;
	struct stat st;
	int failed = 0;
	DIR *d;

	if (stat(path, &st)) {
		perror(path);
		return 1;
	}
	if (!S_ISDIR(st.st_mode))
		return run_file(path, (size_t)st.st_size);
	d = opendir(path);
	if (!d) {
		perror(path);
		return 1;
	}
	while ((e = readdir(d))) {
		char sub[4096];

		if (e->d_name[0] == '.')
			continue;
		snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name);
		failed |= run_path(sub);
	}
	closedir(d);
	return failed;
}

int main(int argc, char **argv)
{
	int failed = argc < 2;

	for (int i = 1; i < argc; i++)
		failed |= run_path(argv[i]);
	printf("%u inputs replayed\n", nruns);
	return failed || !nruns;
}
