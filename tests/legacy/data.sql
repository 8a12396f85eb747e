-- Alice has three profiles, Bruno two with months, Clara, the admin and Caio none; Eva was
-- pre-registered twice, Fabio once.
INSERT INTO users (id, clerk_id, name, email, role, created_at) VALUES
 (1, 'user_alice', 'Alice Prado', 'alice@example.com', 'user', '2026-01-05 10:00'),
 (2, 'user_bruno', 'Bruno Lima', 'bruno@example.com', 'user', '2026-01-06 10:00'),
 (3, 'user_clara', 'Clara Reis', 'clara@example.com', 'user', '2026-01-07 10:00'),
 (4, 'user_admin', 'Dona Admin', 'admin@example.com', 'admin', '2026-01-01 10:00'),
 (5, 'user_caio', NULL, NULL, 'user', '2026-01-08 10:00');
INSERT INTO mentorados (id, user_id, nome_completo, email, turma, meta_faturamento, created_at) VALUES
 (10, 1, 'Alice Prado', 'alice@example.com', 'neon', 16000, '2026-01-02 10:00'),
 (11, 1, 'Alice Prado', ' Alice@Example.com ', 'neon', 30000, '2026-01-03 09:00'),
 (12, 1, 'Novo Usuário', NULL, 'neon', 16000, '2026-01-01 10:01'),
 (13, 2, 'Bruno Lima', 'bruno@example.com', 'neon', 16000, '2026-01-06 10:00'),
 (14, 2, 'Bruno Lima', 'bruno@example.com', 'neon', 20000, '2026-01-06 10:02'),
 (15, NULL, 'Eva Melo', 'Eva@Example.com', 'neon', 18000, '2026-01-02 08:00'),
 (16, NULL, 'Eva M.', 'eva@example.com', 'neon', 18000, '2026-01-02 08:05'),
 (17, NULL, 'Fabio Nery', 'fabio@example.com', 'neon', 18000, '2026-01-02 08:10');
INSERT INTO metricas_mensais (mentorado_id, ano, mes, faturamento, lucro) VALUES
 (11, 2026, 1, 12345, 4000), (11, 2026, 2, 15000, 5200),
 (13, 2026, 1, 9000, 2000), (14, 2026, 1, 9100, 2100), (14, 2026, 2, 9900, 2500);
INSERT INTO feedbacks (mentorado_id, ano, mes, analise_mes, foco_proximo_mes, sugestao_mentor)
 VALUES (11, 2026, 1, 'Bom mês', 'Leads', 'Parcerias'), (13, 2026, 1, 'Início', 'Agenda', 'Anúncios');
INSERT INTO diagnosticos (mentorado_id, atuacao_saude)
 VALUES (10, 'Biomédica'), (11, 'Biomédica esteta'), (13, 'Dentista');
INSERT INTO interacoes (mentorado_id, tipo, notas)
 VALUES (10, 'nota', 'chegou agora'), (11, 'reuniao', 'primeira'), (14, 'nota', 'ligar');
INSERT INTO atividade_progress (mentorado_id, atividade_codigo, step_codigo, completed)
 VALUES (10, 'a1', 's1', 'sim'), (11, 'a1', 's1', 'nao'), (11, 'a1', 's2', 'sim');
SELECT setval('users_id_seq', 100), setval('mentorados_id_seq', 100);
