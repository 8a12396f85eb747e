-- The database of another program, as installations have it before they are taken over.
CREATE TYPE role AS ENUM ('user', 'admin');
CREATE TYPE turma AS ENUM ('neon');
CREATE TYPE ativo AS ENUM ('sim', 'nao');
CREATE TYPE sim_nao AS ENUM ('sim', 'nao');
CREATE TYPE tipo_interacao AS ENUM ('ligacao', 'email', 'whatsapp', 'reuniao', 'nota');
CREATE TABLE users (
    id serial PRIMARY KEY, clerk_id varchar(64) NOT NULL UNIQUE, name text, email varchar(320),
    image_url text, login_method varchar(64), role role NOT NULL DEFAULT 'user',
    created_at timestamp NOT NULL DEFAULT now(), updated_at timestamp NOT NULL DEFAULT now(),
    last_signed_in timestamp NOT NULL DEFAULT now());
CREATE UNIQUE INDEX users_clerk_id_idx ON users (clerk_id);
CREATE INDEX users_email_idx ON users (email);
CREATE TABLE mentorados (
    id serial PRIMARY KEY, user_id integer REFERENCES users (id) ON DELETE SET NULL,
    nome_completo varchar(255) NOT NULL, email varchar(320), foto_url varchar(500),
    turma turma NOT NULL, meta_faturamento integer NOT NULL DEFAULT 16000,
    meta_leads integer DEFAULT 50, meta_procedimentos integer DEFAULT 10,
    meta_posts integer DEFAULT 12, meta_stories integer DEFAULT 60,
    ativo ativo NOT NULL DEFAULT 'sim', onboarding_completed sim_nao NOT NULL DEFAULT 'nao',
    zapi_instance_id varchar(128), last_metrics_reminder timestamp,
    created_at timestamp NOT NULL DEFAULT now(), updated_at timestamp NOT NULL DEFAULT now());
CREATE INDEX mentorados_user_id_idx ON mentorados (user_id);
CREATE INDEX mentorados_email_idx ON mentorados (email);
CREATE INDEX mentorados_turma_idx ON mentorados (turma);
CREATE INDEX mentorados_turma_ativo_idx ON mentorados (turma, ativo);
CREATE TABLE metricas_mensais (
    id serial PRIMARY KEY,
    mentorado_id integer NOT NULL REFERENCES mentorados (id) ON DELETE CASCADE,
    ano integer NOT NULL, mes integer NOT NULL, faturamento integer NOT NULL DEFAULT 0,
    lucro integer NOT NULL DEFAULT 0, posts_feed integer NOT NULL DEFAULT 0,
    stories integer NOT NULL DEFAULT 0, leads integer NOT NULL DEFAULT 0,
    procedimentos integer NOT NULL DEFAULT 0, observacoes text, meta_faturamento integer,
    meta_leads integer, meta_procedimentos integer, meta_posts integer, meta_stories integer,
    instagram_synced sim_nao DEFAULT 'nao', instagram_sync_date timestamp,
    created_at timestamp NOT NULL DEFAULT now(), updated_at timestamp NOT NULL DEFAULT now());
CREATE INDEX metricas_mentorado_idx ON metricas_mensais (mentorado_id);
CREATE UNIQUE INDEX metricas_mentorado_periodo_idx ON metricas_mensais (mentorado_id, ano, mes);
CREATE INDEX metricas_periodo_idx ON metricas_mensais (ano, mes);
CREATE TABLE feedbacks (
    id serial PRIMARY KEY,
    mentorado_id integer NOT NULL REFERENCES mentorados (id) ON DELETE CASCADE,
    ano integer NOT NULL, mes integer NOT NULL, analise_mes text NOT NULL,
    foco_proximo_mes text NOT NULL, sugestao_mentor text NOT NULL,
    created_at timestamp NOT NULL DEFAULT now(), updated_at timestamp NOT NULL DEFAULT now());
CREATE UNIQUE INDEX feedbacks_mentorado_periodo_idx ON feedbacks (mentorado_id, ano, mes);
-- What only the other program knows.
CREATE TABLE diagnosticos (
    id serial PRIMARY KEY,
    mentorado_id integer NOT NULL UNIQUE REFERENCES mentorados (id) ON DELETE CASCADE,
    atuacao_saude text, created_at timestamp NOT NULL DEFAULT now());
CREATE TABLE interacoes (
    id serial PRIMARY KEY,
    mentorado_id integer NOT NULL REFERENCES mentorados (id) ON DELETE CASCADE,
    tipo tipo_interacao NOT NULL, notas text, created_at timestamp NOT NULL DEFAULT now());
CREATE TABLE atividade_progress (
    id serial PRIMARY KEY,
    mentorado_id integer NOT NULL REFERENCES mentorados (id) ON DELETE CASCADE,
    atividade_codigo varchar(50) NOT NULL, step_codigo varchar(50) NOT NULL,
    completed sim_nao NOT NULL DEFAULT 'nao',
    UNIQUE (mentorado_id, atividade_codigo, step_codigo));
