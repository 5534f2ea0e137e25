# The service of a model file: docker build -t c2f-dgl . && docker run -p 8000:8000 -v "$PWD/model.c2f:/model.c2f:ro" c2f-dgl
FROM python:3.12-slim
WORKDIR /package
COPY setup.cfg pyproject.toml constraints.txt README.md LICENSE ./
COPY c2f_dgl c2f_dgl
RUN pip install --no-cache-dir --constraint constraints.txt ".[serve]"
WORKDIR /
USER 65534:65534
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["c2f-dgl", "serve", "--host", "0.0.0.0"]
CMD ["/model.c2f"]
